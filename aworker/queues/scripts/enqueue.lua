#!lua
-- Enqueue new tasks that are more than a push: for later, once for a key, or for a tick of a schedule.
--
-- KEYS  1 delayed (zset)   2 lease id counter   3 schedules (hash name -> last tick ms)   4 claimed (hash)
--       5 deliveries (hash)   6 cancelled (zset)   7 paused (hash)
-- ARGV  1 now ms or ''   2 control channel   3 unique key prefix   4 result key prefix   5 assignment key prefix
--       6 result ttl s   7 channel   8 record of a replaced task   9 10 its messages (the second perhaps '')
--       then for each task: how ('now' | 'in' ms from now | 'at' epoch ms), those ms, queue, payload, task_id,
--       unique key or '', until ('ended' | 'started' | 'time'), its ms, conflict ('keep' | 'replace' | 'stop'),
--       schedule or '', tick ms
-- returns for each task: 'new' | 'kept' (its key has a task) | 'ticked' (the tick is over) | 'paused' | 'wrong' (no list),
--         then the task_id of the new task, or of the one that the key has
-- Invariant: a key's task is the one it names, as long as that is there: nothing has to give a key back. A tick is
--            enqueued once, since the last one only grows, and in the same step. A delayed member is '0', a number
--            from the counter of lease ids, the queue and the payload: equal payloads are delayed each for itself, and
--            what was never leased is told from a retry. On a full server nothing is taken, as with RPUSH.

local LOOK = 20000   -- of a longer list only so many next to each end are looked at; then a task is taken to be there

local call, match, format = redis.call, string.match, string.format
local delayed, counter, schedules, claimed, deliveries, cancelled, paused = unpack(KEYS)
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
-- Never below the clock, as in the claim script.
local last_id = math.max(tonumber(call('GET', counter) or 0), now * 1000)
local first = math.huge   -- the earliest that was delayed

-- A key's task: until, task_id, its member of the delayed set or '-', queue, payload.
local function holder_of(key)
  local entry = call('GET', ARGV[3] .. key)
  if not entry then return nil end
  local until_, length, rest = match(entry, '^(%a+) (%d+) (.*)$')
  local mark, queue, payload = match(string.sub(rest, length + 1), '^(%S+) "([^"]*)"\n(.*)$')
  return { until_ = until_, task_id = string.sub(rest, 1, length), mark = mark, queue = queue, payload = payload,
           member = mark .. ' "' .. queue .. '"\n' .. payload }
end

local function is_in_list(queue, payload)
  local at = redis.pcall('LPOS', queue, payload, 'RANK', -1, 'MAXLEN', LOOK)
  if type(at) == 'number' then return true end
  local length = redis.pcall('LLEN', queue)
  if type(length) ~= 'number' or length <= LOOK then return false end
  return length > 2 * LOOK or type(redis.pcall('LPOS', queue, payload, 'MAXLEN', LOOK)) == 'number'
end

-- Where a key's task is: 'delayed', 'list', 'running' (or to be tried again), nil when it is over.
local function place_of(holder)
  if call('ZSCORE', delayed, holder.member) then return 'delayed' end
  if is_in_list(holder.queue, holder.payload) then return 'list' end
  if holder.until_ == 'started' then return nil end
  if call('HEXISTS', claimed, holder.task_id) == 1 or call('EXISTS', ARGV[5] .. holder.task_id) == 1
    or call('HEXISTS', deliveries, redis.sha1hex(holder.payload)) == 1 then return 'running' end
  return nil
end

local function named(text, task_id)
  return (string.gsub(text, '"%$TASK%$"', function() return cjson.encode(task_id) end))
end

local function take_out(holder, place)
  if place == 'delayed' then call('ZREM', delayed, holder.member) else call('LREM', holder.queue, -1, holder.payload) end
  call('HDEL', deliveries, redis.sha1hex(holder.payload), '!' .. redis.sha1hex(holder.payload))
  call('SET', ARGV[4] .. holder.task_id, named(ARGV[8], holder.task_id), 'EX', ARGV[6])
  for at = 9, 10 do
    if ARGV[at] ~= '' then call('PUBLISH', ARGV[7], named(ARGV[at], holder.task_id)) end
  end
end

local function stop(task_id)
  local until_s = math.floor(now / 1000) + 86400
  call('ZADD', cancelled, until_s, task_id)
  call('PUBLISH', ARGV[2], '{"cancel":' .. cjson.encode(task_id) .. ',"until_s":' .. format('%.0f', until_s) .. '}')
end

-- Put a task where it waits, and return the mark of its member there.
local function put(how, ms, queue, payload)
  if how == 'now' then
    call('RPUSH', queue, payload)
    return '-'
  end
  local due = tonumber(ms) + (how == 'in' and now or 0)
  last_id = last_id + 1
  local mark = format('0%.0f', last_id)
  call('ZADD', delayed, format('%.0f', due), mark .. ' "' .. queue .. '"\n' .. payload)
  if due < first then first = due end
  return mark
end

local function enqueue(how, ms, queue, payload, task_id, key, until_, key_ms, conflict, schedule, tick)
  if schedule ~= '' then
    local last = tonumber(call('HGET', schedules, schedule) or 0)
    if tonumber(tick) <= last then return 'ticked', task_id end
    if call('HEXISTS', paused, 'schedule ' .. schedule) == 1 then
      call('HSET', schedules, schedule, tick)
      return 'paused', task_id
    end
  end
  local kind = call('TYPE', queue).ok
  if kind ~= 'list' and kind ~= 'none' then return 'wrong', task_id end
  if schedule ~= '' then call('HSET', schedules, schedule, tick) end
  local holder = key ~= '' and holder_of(key)
  local place = holder and place_of(holder)
  if holder and (place or holder.until_ == 'time') then
    if conflict == 'keep' then return 'kept', holder.task_id end
    if place == 'delayed' or place == 'list' then
      take_out(holder, place)
    elseif place and conflict == 'stop' then
      stop(holder.task_id)
    end
  end
  local mark = put(how, ms, queue, payload)
  if key ~= '' then
    local entry = until_ .. ' ' .. #task_id .. ' ' .. task_id .. mark .. ' "' .. queue .. '"\n' .. payload
    call('SET', ARGV[3] .. key, entry, 'PX', key_ms)
  end
  return 'new', task_id
end

local reply = {}
for at = 11, #ARGV, 11 do
  reply[#reply + 1], reply[#reply + 2] = enqueue(unpack(ARGV, at, at + 10))
end
if first < math.huge then
  call('SET', counter, format('%.0f', last_id))
  local earliest = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if tonumber(earliest) == first then
    call('PUBLISH', ARGV[2], format('{"due_in_ms":%.0f}', math.max(0, first - now)))
  end
end
return reply
