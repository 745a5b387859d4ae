#!lua flags=allow-oom
-- Put delayed tasks whose time has come onto their list's taking end.
--
-- KEYS  1 delayed (zset)   2 ends (hash)
-- ARGV  1 now ms or ''   2 most tasks
-- returns the number of tasks moved
-- Invariant: a task leaves delayed and enters its list in this one step; one whose list is none any more stays.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
local moved = 0
for index = 1, #due do
  local queue, payload = string.match(due[index], '^%d+ "([^"]*)"\n(.*)$')
  local side = string.match(redis.call('HGET', KEYS[2], queue) or 'right', '^%a+')
  local pushed = redis.pcall(side == 'left' and 'LPUSH' or 'RPUSH', queue, payload)
  if type(pushed) == 'number' then
    redis.call('ZREM', KEYS[1], due[index])
    moved = moved + 1
  end
end
return moved
