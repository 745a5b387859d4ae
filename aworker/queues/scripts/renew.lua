#!lua flags=allow-oom
-- Renew this worker's lease deadline and say what is due elsewhere.
--
-- KEYS  1 workers (zset)   2 leases of this worker (hash)   3 delayed (zset)   4 heartbeat key
-- ARGV  1 worker   2 lease ttl ms   3 now ms or ''   4 heartbeat channel   5 heartbeat ttl s   6 heartbeat JSON or ''
-- returns { now ms, 1 if the deadline still stood, leases held, earliest other deadline ms or -1, earliest delayed due ms or -1 }
-- Invariant: a worker that was reaped in between is told so (0), and starts anew with no lease but those it claims now.

local worker, ttl, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local stood = redis.call('ZSCORE', KEYS[1], worker) and 1 or 0
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl), worker)
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[4], ARGV[6], 'EX', ARGV[5])
  redis.call('PUBLISH', ARGV[4], ARGV[6])
end
local other = -1
local earliest = redis.call('ZRANGE', KEYS[1], 0, 1, 'WITHSCORES')
if earliest[1] and earliest[1] ~= worker then other = earliest[2] elseif earliest[3] then other = earliest[4] end
local due = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or -1
return { string.format('%.0f', now), stood, redis.call('HLEN', KEYS[2]), tostring(other), tostring(due) }
