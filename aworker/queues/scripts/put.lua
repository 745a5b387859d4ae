-- A part of other scripts, in the place of their line `--@put`: putting new tasks where they wait. The script around it
-- has `call`, `match`, `format` and `now`; making a putter costs nothing until one is made.
--
-- names: delayed, counter, claimed, deliveries, cancelled (keys), control, channel (channels), unique, results,
--        assignments, groups (prefixes), ttl, record of a replaced task, its messages first and second (the second
--        perhaps '')
-- A group is a hash under the prefix, ':' and its id: `left`, the callback in `how`, `ms`, `queue`, `task_id` and
-- `payload`, and of each member that has ended, by its number, how. When all have, the hash makes place for a string
-- under the prefix, '_ended:' and the id, which says how they ended and expires like a result.
-- Invariant: a key's task is the one it names, as long as that is there: nothing has to give a key back. A delayed
--            member is '0', a number from the counter of lease ids, the queue and the payload: equal payloads are
--            delayed each for itself, and what was never leased is told from a retry. Of a member only the first end
--            counts; the callback leaves the hash and is put where it waits in the step of the last one.
local function new_putter(names)
  local LOOK = 20000   -- of a longer list only so many next to each end are looked at; then a task is taken to be there
  local first = math.huge   -- the earliest that was delayed
  local last_id

  -- A key's task: until, task_id, its member of the delayed set or '-', queue, payload.
  local function holder_of(key)
    local entry = call('GET', names.unique .. key)
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
    if call('ZSCORE', names.delayed, holder.member) then return 'delayed' end
    if is_in_list(holder.queue, holder.payload) then return 'list' end
    if holder.until_ == 'started' then return nil end
    if call('HEXISTS', names.claimed, holder.task_id) == 1 or call('EXISTS', names.assignments .. holder.task_id) == 1
      or call('HEXISTS', names.deliveries, redis.sha1hex(holder.payload)) == 1 then return 'running' end
    return nil
  end

  local function named(text, task_id)
    return (string.gsub(text, '"%$TASK%$"', function() return cjson.encode(task_id) end))
  end

  local function take_out(holder, place)
    if place == 'delayed' then call('ZREM', names.delayed, holder.member) else call('LREM', holder.queue, -1, holder.payload) end
    call('HDEL', names.deliveries, redis.sha1hex(holder.payload), '!' .. redis.sha1hex(holder.payload))
    call('SET', names.results .. holder.task_id, named(names.record, holder.task_id), 'EX', names.ttl)
    for _, message in ipairs({ names.first, names.second }) do
      if message ~= '' then call('PUBLISH', names.channel, named(message, holder.task_id)) end
    end
  end

  local function stop(task_id)
    local until_s = math.floor(now / 1000) + 86400
    call('ZADD', names.cancelled, until_s, task_id)
    call('PUBLISH', names.control, '{"cancel":' .. cjson.encode(task_id) .. ',"until_s":' .. format('%.0f', until_s) .. '}')
  end

  -- Put a task where it waits, and return the mark of its member there.
  local function place(how, ms, queue, payload)
    if how == 'now' then
      call('RPUSH', queue, payload)
      return '-'
    end
    local due = tonumber(ms) + (how == 'in' and now or 0)
    -- Never below the clock, as in the claim script.
    last_id = (last_id or math.max(tonumber(call('GET', names.counter) or 0), now * 1000)) + 1
    local mark = format('0%.0f', last_id)
    call('ZADD', names.delayed, format('%.0f', due), mark .. ' "' .. queue .. '"\n' .. payload)
    if due < first then first = due end
    return mark
  end

  local putter = {}

  function putter.is_list(queue)
    local kind = call('TYPE', queue).ok
    return kind == 'list' or kind == 'none'
  end

  -- Enqueue a task for a list that is one: 'new' | 'kept', and the task_id of the new task or of the one its key has.
  function putter.put(how, ms, queue, payload, task_id, key, until_, key_ms, conflict)
    local holder = key ~= '' and holder_of(key)
    local where = holder and place_of(holder)
    if holder and (where or holder.until_ == 'time') then
      if conflict == 'keep' then return 'kept', holder.task_id end
      if where == 'delayed' or where == 'list' then
        take_out(holder, where)
      elseif where and conflict == 'stop' then
        stop(holder.task_id)
      end
    end
    local mark = place(how, ms, queue, payload)
    if key ~= '' then
      local entry = until_ .. ' ' .. #task_id .. ' ' .. task_id .. mark .. ' "' .. queue .. '"\n' .. payload
      call('SET', names.unique .. key, entry, 'PX', key_ms)
    end
    return 'new', task_id
  end

  -- Begin a group whose callback is put when `total` members have ended; false where there is, or was, one of its id.
  function putter.group(id, total, how, ms, queue, payload, task_id)
    local key = names.groups .. ':' .. id
    if call('EXISTS', key, names.groups .. '_ended:' .. id) > 0 then return false end
    call('HSET', key, 'left', total, 'how', how, 'ms', ms, 'queue', queue, 'payload', payload, 'task_id', task_id)
    return true
  end

  -- How the members of a group ended, as JSON.
  local function summary_of(key)
    local completed, failed = 0, {}
    local fields = call('HGETALL', key)
    for at = 1, #fields, 2 do
      local status, task_id = match(fields[at + 1], '^(%a+) (.*)$')
      if tonumber(fields[at]) and status then
        if status == 'completed' then completed = completed + 1 else failed[#failed + 1] = task_id end
      end
    end
    return format('{"completed":%d,"failed":%s}', completed, #failed > 0 and cjson.encode(failed) or '[]')
  end

  -- A member has ended as `status`, 'completed' or 'error': the last one's end puts the callback where it waits.
  function putter.member_ended(id, member, status, task_id)
    local key = names.groups .. ':' .. id
    if call('EXISTS', key) == 0 or call('HSETNX', key, member, status .. ' ' .. task_id) == 0 then return end
    if call('HINCRBY', key, 'left', -1) > 0 then return end
    local how, ms, queue, payload, callback = unpack(call('HMGET', key, 'how', 'ms', 'queue', 'payload', 'task_id'))
    local summary = summary_of(key)
    local from, to = string.find(payload, '"$' .. id .. '$"', 1, true)
    if from then payload = string.sub(payload, 1, from - 1) .. summary .. string.sub(payload, to + 1) end
    call('DEL', key)
    call('SET', names.groups .. '_ended:' .. id, summary, 'EX', names.ttl)
    if putter.is_list(queue) then
      place(how, ms, queue, payload)
    else
      -- Its list is none: it waits for one, as what is delayed does.
      place('in', 1000, queue, payload)
    end
  end

  -- After the last put: keep the counter, and tell workers of a task that is due before all others.
  function putter.finish()
    if not last_id then return end
    call('SET', names.counter, format('%.0f', last_id))
    local earliest = call('ZRANGE', names.delayed, 0, 0, 'WITHSCORES')[2]
    if tonumber(earliest) == first then
      call('PUBLISH', names.control, format('{"due_in_ms":%.0f}', math.max(0, first - now)))
    end
  end

  return putter
end
