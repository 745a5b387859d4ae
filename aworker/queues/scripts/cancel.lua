#!lua flags=allow-oom
-- Settle a waiting task as cancelled.
--
-- KEYS  1 list or delayed (zset)   2 deliveries (hash)   3 result record
-- ARGV  1 'list' or 'delayed'   2 member   3 payload   4 result ttl s   5 record   6 channel   7 messages (count)
--       8.. messages, then, where it is the member of a group: group key prefix, group id, its number, its task_id, now
--       ms or '', delayed (zset), counter of lease ids, control channel
-- returns 1, or 0 when the task does not wait there any more
-- Invariant: the task leaves where it waited, its record is stored and its group counts it in this one step.

local removed = ARGV[1] == 'list' and redis.call('LREM', KEYS[1], 1, ARGV[2]) or redis.call('ZREM', KEYS[1], ARGV[2])
if removed == 0 then return 0 end
redis.call('HDEL', KEYS[2], redis.sha1hex(ARGV[3]), '!' .. redis.sha1hex(ARGV[3]))
redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[4])
local after = 8 + tonumber(ARGV[7])
for index = 8, after - 1 do redis.call('PUBLISH', ARGV[6], ARGV[index]) end
if #ARGV < after then return 1 end

local call, match, format = redis.call, string.match, string.format
local now = tonumber(ARGV[after + 4])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

--@put

local putter = new_putter({
  groups = ARGV[after], delayed = ARGV[after + 5], counter = ARGV[after + 6], control = ARGV[after + 7], ttl = ARGV[4],
})
putter.member_ended(ARGV[after + 1], ARGV[after + 2], 'error', ARGV[after + 3])
putter.finish()
return 1
