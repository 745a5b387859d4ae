#!lua
-- Put new tasks into the delayed set, to wait there for their time.
--
-- KEYS  1 delayed (zset)   2 lease id counter
-- ARGV  1 now ms or ''   2 control channel
--       then for each task: 'in' (ms from now) or 'at' (epoch ms), those ms, queue, payload
-- returns { due ms of each }
-- Invariant: a member is '0', a number from the counter of lease ids, the queue and the payload: so equal payloads are
--            delayed each for itself, and what was never leased is told from a retry. Workers are told when one of
--            them is due before all others; on a full server nothing is taken, as with RPUSH.

local call, format = redis.call, string.format
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
-- Never below the clock, as in the claim script.
local last = math.max(tonumber(call('GET', KEYS[2]) or 0), now * 1000)
local reply, first = {}, math.huge
for at = 3, #ARGV, 4 do
  local due = tonumber(ARGV[at + 1]) + (ARGV[at] == 'in' and now or 0)
  last = last + 1
  call('ZADD', KEYS[1], format('%.0f', due), format('0%.0f "', last) .. ARGV[at + 2] .. '"\n' .. ARGV[at + 3])
  reply[#reply + 1] = format('%.0f', due)
  if due < first then first = due end
end
call('SET', KEYS[2], format('%.0f', last))
local earliest = call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if tonumber(earliest) == first then
  call('PUBLISH', ARGV[2], format('{"due_in_ms":%.0f}', math.max(0, first - now)))
end
return reply
