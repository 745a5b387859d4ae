#!lua flags=allow-oom
-- Put a dead letter's payload back onto its list, or drop it.
--
-- KEYS  1 dead (stream)   2 dead bytes (counter)   3 ends (hash)   4 deliveries (hash)
-- ARGV  1 entry id   2 'requeue' or 'drop'
-- returns 1, or 0 when there is no such entry or its list is none any more
-- Invariant: the entry leaves the stream and its payload enters the list in this one step.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local fields = {}
for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
if ARGV[2] == 'requeue' then
  local side = string.match(redis.call('HGET', KEYS[3], fields.queue) or 'right', '^%a+')
  -- Behind all that waits: it has had its turn.
  local pushed = redis.pcall(side == 'left' and 'RPUSH' or 'LPUSH', fields.queue, fields.payload)
  if type(pushed) ~= 'number' then return 0 end
  if pushed > 1 then
    -- Older than what it stands behind: noted, so that it does not turn the list around.
    local mark = 'moved ' .. fields.queue
    local moved = string.sub((redis.call('HGET', KEYS[3], mark) or '') .. redis.sha1hex(fields.payload) .. ' ', -4100)
    redis.call('HSET', KEYS[3], mark, moved)
  end
  redis.call('HDEL', KEYS[4], redis.sha1hex(fields.payload), '!' .. redis.sha1hex(fields.payload))
end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('DECRBY', KEYS[2], #fields.payload)
return 1
