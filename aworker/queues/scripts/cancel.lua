#!lua flags=allow-oom
-- Settle a waiting task as cancelled.
--
-- KEYS  1 list or delayed (zset)   2 deliveries (hash)   3 result record
-- ARGV  1 'list' or 'delayed'   2 member   3 payload   4 result ttl s   5 record   6 channel   7.. messages
-- returns 1, or 0 when the task does not wait there any more
-- Invariant: the task leaves where it waited and its record is stored in this one step.

local removed = ARGV[1] == 'list' and redis.call('LREM', KEYS[1], 1, ARGV[2]) or redis.call('ZREM', KEYS[1], ARGV[2])
if removed == 0 then return 0 end
redis.call('HDEL', KEYS[2], redis.sha1hex(ARGV[3]), '!' .. redis.sha1hex(ARGV[3]))
redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[4])
for index = 7, #ARGV do redis.call('PUBLISH', ARGV[6], ARGV[index]) end
return 1
