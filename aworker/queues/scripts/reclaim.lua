#!lua flags=allow-oom
-- Move leases of a worker whose deadline has passed into the leases of the worker that asks; count their deliveries.
--
-- KEYS  1 workers (zset)   2 leases of this worker (hash)   3 deliveries (hash)   4 lease id counter   5 claimed (hash)
-- ARGV  1 worker   2 lease ttl ms   3 now ms or ''   4 most leases   5 prefix of lease keys   6 prefix of commit keys
-- returns { dead worker's name or '', then lease_id, delivery, queue, registered task_id, payload for each }
-- Invariant: each lease leaves the dead worker and enters the asker's in this one step, under a new and larger id;
--            a lease that a reaper itself left behind is not counted twice.

local worker, ttl, now, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local expired
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, 2)) do
  if name ~= worker and not expired then expired = name end
end
if not expired then return { '' } end

local theirs = ARGV[5] .. expired
local reply = { expired }
-- Never below the clock, as in the claim script.
local last = math.max(tonumber(redis.call('GET', KEYS[4]) or 0), now * 1000)
local fields = redis.call('HKEYS', theirs)
table.sort(fields, function(a, b) return tonumber(a) < tonumber(b) end)
for index = 1, math.min(#fields, most) do
  local entry = redis.call('HGET', theirs, fields[index])
  local head, payload = string.match(entry, '^([^\n]*)\n(.*)$')
  local delivery, suspicion, claimed_at, queue, registered = string.match(head, '^(%d+) (%a+) (%d+) "([^"]*)" (.*)$')
  redis.call('HDEL', theirs, fields[index])
  if suspicion ~= 'reclaimed' then redis.call('HINCRBY', KEYS[3], redis.sha1hex(payload), 1) end
  last = last + 1
  local id = string.format('%.0f', last)
  redis.call('HSET', KEYS[2], id, delivery .. ' reclaimed ' .. claimed_at .. ' "' .. queue .. '" ' .. registered .. '\n' .. payload)
  if registered ~= '' then redis.call('HSET', KEYS[5], registered, id) end
  for _, value in ipairs({ id, delivery, queue, registered, payload }) do reply[#reply + 1] = value end
end
redis.call('SET', KEYS[4], string.format('%.0f', last))
if #fields <= most then
  redis.call('ZREM', KEYS[1], expired)
  redis.call('DEL', ARGV[6] .. expired)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl), worker)
return reply
