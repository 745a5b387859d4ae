#!lua flags=allow-oom
-- Say what a worker does, and add what it did since its last beat to the minute that runs.
--
-- KEYS  1 presence of this worker   2 beats (zset)   3 minutes (hash)
-- ARGV  1 worker   2 presence JSON   3 its ttl s   4 s after which a silent worker is forgotten   5 now s or ''
--       6.. for each level: label, waiting, taken, completed, failed
-- returns 1
-- Invariant: no task is touched; the hash has at most 60 fields for each label.

local now = tonumber(ARGV[5]) or tonumber(redis.call('TIME')[1])
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[4]))
local minute = math.floor(now / 60)
for at = 6, #ARGV, 5 do
  local field = (minute % 60) .. ' ' .. ARGV[at]
  local known, _, taken, completed, failed =
    string.match(redis.call('HGET', KEYS[3], field) or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if tonumber(known) ~= minute then taken, completed, failed = 0, 0, 0 end
  redis.call('HSET', KEYS[3], field, string.format('%d %d %d %d %d', minute, ARGV[at + 1],
    taken + ARGV[at + 2], completed + ARGV[at + 3], failed + ARGV[at + 4]))
end
return 1
