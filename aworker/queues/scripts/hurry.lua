#!lua flags=allow-oom
-- Put a delayed task onto its list now, to be taken next there.
--
-- KEYS  1 delayed (zset)   2 list   3 ends (hash)
-- ARGV  1 member   2 payload   3 'left' or 'right': the taking end, found a moment ago   4 '1' if it is found by age
--       5 now ms or ''
-- returns 1, 0 when it is not delayed any more, -1 when the list is none any more
-- Invariant: the task leaves delayed and enters the list in this one step.

local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'list' and kind ~= 'none' then return -1 end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local length = redis.call(ARGV[3] == 'left' and 'LPUSH' or 'RPUSH', KEYS[2], ARGV[2])
if ARGV[4] == '1' and length > 1 then
  -- It is not as old as its place says: noted, so that it turns nothing around.
  local now = tonumber(ARGV[5])
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local mark = 'moved ' .. KEYS[2]
  local moved = string.sub((redis.call('HGET', KEYS[3], mark) or '') .. redis.sha1hex(ARGV[2]) .. ' ', -4100)
  redis.call('HSET', KEYS[3], KEYS[2], ARGV[3] .. ' ' .. string.format('%.0f', now), mark, moved)
end
return 1
