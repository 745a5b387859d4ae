#!lua flags=allow-oom
-- Put delayed tasks whose time has come onto their lists: a retry onto the taking end, one that was never leased (its
-- member begins with '0') behind all that waits, as if it were pushed now.
--
-- KEYS  1 delayed (zset)   2 ends (hash)   3 dead (stream)   4 dead bytes (counter)
-- ARGV  1 now ms or ''   2 most tasks   3 the queue of what names none   4.. queue, 'left' | 'right' where it is fixed
-- returns { tasks moved, ms until the next one is due or -1 }
-- Invariant: a task leaves delayed and enters its list in this one step. One whose list is none any more waits for
--            another second; what somebody put there in another form is a dead letter.

local call, format = redis.call, string.format
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local fixed = {}
for at = 4, #ARGV, 2 do fixed[ARGV[at]] = ARGV[at + 1] end

-- Whether the push goes onto the left end. While nobody has compared a list's ends, new tasks go where clients push.
local function goes_left(queue, is_retry)
  local side, checked = fixed[queue], '1'
  if not side then side, checked = string.match(call('HGET', KEYS[2], queue) or 'right 0', '^(%a+) (%d+)$') end
  if is_retry then return side == 'left' end
  return checked ~= '0' and side == 'right'
end

local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', format('%.0f', now), 'LIMIT', 0, ARGV[2])
local moved = 0
for index = 1, #due do
  local member = due[index]
  local mark, queue, payload = string.match(member, '^(%d)%d* "([^"]*)"\n(.*)$')
  if not mark then
    call('XADD', KEYS[3], '*', 'payload', member, 'queue', ARGV[3], 'reason', 'delayed_unreadable')
    call('INCRBY', KEYS[4], #member)
    call('ZREM', KEYS[1], member)
    moved = moved + 1
  else
    local pushed = redis.pcall(goes_left(queue, mark ~= '0') and 'LPUSH' or 'RPUSH', queue, payload)
    if type(pushed) == 'number' then
      call('ZREM', KEYS[1], member)
      moved = moved + 1
    else
      call('ZADD', KEYS[1], format('%.0f', now + 1000), member)
    end
  end
end
local next_due = call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return { moved, next_due and format('%.0f', math.max(0, tonumber(next_due) - now)) or '-1' }
