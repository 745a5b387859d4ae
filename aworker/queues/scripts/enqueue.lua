#!lua
-- Enqueue new tasks that are more than a push: for later, once for a key, or for a tick of a schedule.
--
-- KEYS  1 delayed (zset)   2 lease id counter   3 schedules (hash name -> last tick ms)   4 claimed (hash)
--       5 deliveries (hash)   6 cancelled (zset)   7 paused (hash)
-- ARGV  1 now ms or ''   2 control channel   3 unique key prefix   4 result key prefix   5 assignment key prefix
--       6 result ttl s   7 channel   8 record of a replaced task   9 10 its messages (the second perhaps '')
--       11 group key prefix
--       then for each task: how ('now' | 'in' ms from now | 'at' epoch ms), those ms, queue, payload, task_id,
--       unique key or '', until ('ended' | 'started' | 'time'), its ms, conflict ('keep' | 'replace' | 'stop'),
--       schedule or '', tick ms;
--       a group stands before its members as: 'group', how many they are, queue and payload of its callback, group id,
--       the callback's task_id, its how, its ms, '', '', 0
-- returns for each task: 'new' | 'kept' (its key has a task) | 'ticked' (the tick is over) | 'paused' | 'wrong' (no list),
--         for a group and its members 'kept' where there is one of its id,
--         then the task_id of the new task, or of the one that the key has
-- Invariant: that of put.lua; a tick is enqueued once, since the last one only grows, and in the same step. On a full
--            server nothing is taken, as with RPUSH.

local call, match, format = redis.call, string.match, string.format
local schedules, paused = KEYS[3], KEYS[7]
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

--@put

local putter = new_putter({
  delayed = KEYS[1], counter = KEYS[2], claimed = KEYS[4], deliveries = KEYS[5], cancelled = KEYS[6],
  control = ARGV[2], unique = ARGV[3], results = ARGV[4], assignments = ARGV[5], ttl = ARGV[6], channel = ARGV[7],
  record = ARGV[8], first = ARGV[9], second = ARGV[10], groups = ARGV[11],
})

local function enqueue(how, ms, queue, payload, task_id, key, until_, key_ms, conflict, schedule, tick)
  if schedule ~= '' then
    local last = tonumber(call('HGET', schedules, schedule) or 0)
    if tonumber(tick) <= last then return 'ticked', task_id end
    if call('HEXISTS', paused, 'schedule ' .. schedule) == 1 then
      call('HSET', schedules, schedule, tick)
      return 'paused', task_id
    end
  end
  if not putter.is_list(queue) then return 'wrong', task_id end
  if schedule ~= '' then call('HSET', schedules, schedule, tick) end
  return putter.put(how, ms, queue, payload, task_id, key, until_, key_ms, conflict)
end

local reply = {}
local kept = 0   -- so many of the next are members of a group that is there
for at = 12, #ARGV, 11 do
  local how, ms, queue, payload, task_id, key, until_, key_ms = unpack(ARGV, at, at + 7)
  if how == 'group' then
    local status = 'new'
    if not putter.is_list(queue) then
      status = 'wrong'
    elseif not putter.group(task_id, ms, until_, key_ms, queue, payload, key) then
      status = 'kept'
    end
    if status ~= 'new' then kept = tonumber(ms) end
    reply[#reply + 1], reply[#reply + 2] = status, task_id
  elseif kept > 0 then
    kept = kept - 1
    reply[#reply + 1], reply[#reply + 2] = 'kept', task_id
  else
    reply[#reply + 1], reply[#reply + 2] = enqueue(unpack(ARGV, at, at + 10))
  end
end
putter.finish()
return reply
