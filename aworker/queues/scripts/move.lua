#!lua flags=allow-oom
-- Move a waiting task from one level's list to another's.
--
-- KEYS  1 list   2 target list   3 ends (hash)
-- ARGV  1 payload   2 'left' or 'right': the end it is put on   3 the target's taking end, found a moment ago
--       4 '1' if that end is found by age   5 now ms or ''
-- returns 1, 0 when the task does not wait there any more, -1 when the target is no list
-- Invariant: the payload, byte for byte, leaves one list and enters the other in this one step.

local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'list' and kind ~= 'none' then return -1 end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
local length = redis.call(ARGV[2] == 'left' and 'LPUSH' or 'RPUSH', KEYS[2], ARGV[1])
if ARGV[4] == '1' and length > 1 then
  -- It is not as old as its place says: noted, so that it turns nothing around.
  local now = tonumber(ARGV[5])
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local moved = redis.call('HGET', KEYS[3], 'moved ' .. KEYS[2]) or ''
  moved = string.sub(moved .. redis.sha1hex(ARGV[1]) .. ' ', -4100)
  redis.call('HSET', KEYS[3], KEYS[2], ARGV[3] .. ' ' .. string.format('%.0f', now), 'moved ' .. KEYS[2], moved)
end
return 1
