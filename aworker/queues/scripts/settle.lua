#!lua flags=allow-oom
-- Write down what happened to leased tasks: each item only if its lease still stands.
--
-- KEYS  1 leases of this worker (hash)   2 deliveries (hash)   3 claimed (hash)   4 ends (hash)   5 commits (hash)
--       6 dead (stream)   7 dead bytes (counter)   8 delayed (zset payload entry -> due ms)
-- ARGV  1 worker   2 now ms or ''   3 commit number   4 result ttl s   5 channel   6 dead max entries   7 dead max bytes
--       8 assignment ttl s   9 result key prefix   10 assignment key prefix
--       then for each item: kind, lease_id, task_id, registered task_id, record, messages (count), messages.., extras (count), extras..
-- kinds 'running'  record and assignment (extra 1: the assignment's text)
--       'message'  messages only, while the lease stands
--       'publish'  messages only, always (a final message said again)
--       'end'      record, lease gone (extra 1: '1' when it was delivered before, so that the count is forgotten,
--                  extra 2: '1' when no assignment of it can stand)
--       'dead'     as 'end', and the payload into the dead letters (extras: field, value, ..)
--       'back'     lease gone, payload onto its list's taking end (extra 1: '1' when this delivery counts,
--                  extra 2: 'left' | 'right' where the configuration fixes the end); a list that is none any more
--                  is no place for it: then into the dead letters; extra 3: what this try ended with, one line, or ''
--       'delay'    lease gone, payload into delayed (extra 1: due in ms; it counts; extra 2: as extra 3 of 'back')
--       'also'     what goes with the item before it, if that was done, in the same step: the task was the member of a
--                  group and has ended, what it enqueued is put where it waits. Extras: counter of lease ids, cancelled
--                  (keys), control channel, prefixes of unique keys and of groups, record of a replaced task, its two
--                  messages (the second perhaps ''), the group's id or '', the member's number, its status, then for
--                  each task: how, ms, queue, payload, task_id, unique key or '', until, its ms, conflict, as in
--                  enqueue.lua; one whose list is none is a dead letter
-- returns { dead letters that fell off, then for each item but 'also' 1 (done) or 0 (the lease is gone: nothing was
--           written) }
-- What earlier tries ended with stands beside the count, in deliveries under '!' and the payload's sha1, and goes with it:
-- a dead letter has it in its field `errors`.
-- Invariant: the lease is removed first, so this frees before it writes, and a task is in exactly one place after it.
--            Sent again with the same commit number it answers as before; a late copy of an older commit writes nothing.

local call, match, format = redis.call, string.match, string.format
local worker, now, commit = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl, channel = ARGV[4], ARGV[5]
local max_entries, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local assignment_ttl, result_prefix, assignment_prefix = ARGV[8], ARGV[9], ARGV[10]
local leases, deliveries, claimed, ends, commits, dead, dead_bytes, delayed = unpack(KEYS)
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local done = call('HGET', commits, 'settle')
local done_number = done and tonumber(match(done, '^%d+')) or 0
local overtaken = done_number > tonumber(commit)
if done_number == tonumber(commit) then
  local reply = { 0 }
  for flag in string.gmatch(match(done, ' (.*)$'), '%d') do reply[#reply + 1] = tonumber(flag) end
  return reply
end

-- The payload, the delivery, the queue and the registered task_id of a lease.
local function entry_of(id)
  local entry = call('HGET', leases, id)
  if not entry then return nil end
  local head, payload = match(entry, '^([^\n]*)\n(.*)$')
  local delivery, queue, registered = match(head, '^(%d+) %a+ %d+ "([^"]*)" (.*)$')
  return payload, tonumber(delivery), queue, registered
end

local function publish(from, count)
  for index = from, from + count - 1 do call('PUBLISH', channel, ARGV[index]) end
end

local fallen = 0
local function bury(payload, fields)
  call('XADD', dead, '*', 'payload', payload, unpack(fields))
  local bytes = call('INCRBY', dead_bytes, #payload)
  local length = call('XLEN', dead)
  while length > max_entries or (bytes > max_bytes and length > 1) do
    local oldest = call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
    call('XDEL', dead, oldest[1])
    bytes = call('DECRBY', dead_bytes, #oldest[2][2])
    length, fallen = length - 1, fallen + 1
  end
end

local TRIES_KEPT = 20

local function note_try(payload, line)
  if not line or line == '' then return end
  local field = '!' .. redis.sha1hex(payload)
  local kept = call('HGET', deliveries, field)
  local lines = kept and kept .. '\n' .. line or line
  local _, breaks = string.gsub(lines, '\n', '')
  if breaks >= TRIES_KEPT then lines = match(lines, '\n(.*)$') end
  call('HSET', deliveries, field, lines)
end

local released = {}   -- task_ids whose lease is gone, to be taken off the register together

local function release()
  for from = 1, #released, 1000 do
    call('HDEL', claimed, unpack(released, from, math.min(from + 999, #released)))
  end
  released = {}
end

--@put

local ALSO_HEAD = 11
local putter

-- Put what an ended task enqueued where it waits, and count it in its group.
local function put_all(task_id, from, to)
  release()   -- what has ended has its unique key no longer
  putter = putter or new_putter({
    delayed = delayed, counter = ARGV[from], claimed = claimed, deliveries = deliveries, cancelled = ARGV[from + 1],
    control = ARGV[from + 2], unique = ARGV[from + 3], groups = ARGV[from + 4], results = result_prefix,
    assignments = assignment_prefix, ttl = ttl, channel = channel, record = ARGV[from + 5], first = ARGV[from + 6],
    second = ARGV[from + 7],
  })
  local kept = 0   -- so many of the next are members of a group that is there
  for each = from + ALSO_HEAD, to, 9 do
    local how, ms, queue, payload, new_id, key, until_, key_ms = unpack(ARGV, each, each + 7)
    if how == 'group' then
      if not putter.group(new_id, ms, until_, key_ms, queue, payload, key) then kept = tonumber(ms) end
    elseif kept > 0 then
      kept = kept - 1
    elseif putter.is_list(queue) then
      putter.put(unpack(ARGV, each, each + 8))
    else
      bury(payload, { 'queue', queue, 'reason', 'queue_is_no_list', 'error', 'its list is none', 'task_id', new_id })
    end
  end
  local group, member, status = unpack(ARGV, from + 8, from + 10)
  if group ~= '' then putter.member_ended(group, member, status, task_id) end
end

local flags = {}
local at = 11
while at <= #ARGV do
  local kind, id, task_id, registered, record = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local messages, count = at + 6, tonumber(ARGV[at + 5])
  local extras = messages + count + 1    -- where the first of them stands
  at = extras + tonumber(ARGV[extras - 1])
  local stands = true

  if overtaken then
    stands = false
  elseif kind == 'also' then
    if flags[#flags] == 1 then put_all(task_id, extras, at - 1) end
  elseif kind == 'publish' then
    publish(messages, count)
  elseif kind == 'message' then
    stands = call('HEXISTS', leases, id) == 1
    if stands then publish(messages, count) end
  elseif kind == 'running' then
    stands = call('HEXISTS', leases, id) == 1
    if stands then
      if record ~= '' then call('SET', result_prefix .. task_id, record, 'EX', ttl) end
      call('SET', assignment_prefix .. task_id, ARGV[extras], 'EX', assignment_ttl)
      publish(messages, count)
    end
  else
    local payload, delivery, queue, held
    -- An ended task was delivered before only if the caller says so in extra 1: else its payload is not read again.
    if kind ~= 'end' or ARGV[extras] == '1' then payload, delivery, queue, held = entry_of(id) end
    stands = call('HDEL', leases, id) == 1
    if stands then
      if held and held ~= '' then registered = held end
      if registered ~= '' then released[#released + 1] = registered end
      if kind == 'dead' then
        local fields = { unpack(ARGV, extras, at - 1) }
        local tries = delivery > 1 and call('HGET', deliveries, '!' .. redis.sha1hex(payload))
        if tries then
          fields[#fields + 1] = 'errors'
          fields[#fields + 1] = '[' .. string.gsub(tries, '\n', ',') .. ']'
        end
        bury(payload, fields)
      end
      if kind == 'end' or kind == 'dead' then
        if payload then call('HDEL', deliveries, redis.sha1hex(payload), '!' .. redis.sha1hex(payload)) end
      elseif kind == 'back' then
        local side = match(call('HGET', ends, queue) or 'right', '^%a+')
        if at - extras > 1 and ARGV[extras + 1] ~= 'auto' then side = ARGV[extras + 1] end
        local pushed = redis.pcall(side == 'left' and 'LPUSH' or 'RPUSH', queue, payload)
        if type(pushed) == 'table' and pushed.err then
          bury(payload, { 'queue', queue, 'reason', 'queue_is_no_list', 'error', pushed.err, 'task_id', task_id })
        else
          if ARGV[extras] == '1' then call('HINCRBY', deliveries, redis.sha1hex(payload), 1) end
          if at - extras > 2 then note_try(payload, ARGV[extras + 2]) end
        end
      elseif kind == 'delay' then
        call('ZADD', delayed, format('%.0f', now + tonumber(ARGV[extras])), id .. ' "' .. queue .. '"\n' .. payload)
        call('HINCRBY', deliveries, redis.sha1hex(payload), 1)
        if at - extras > 1 then note_try(payload, ARGV[extras + 1]) end
      end
      if task_id ~= '' then
        if kind ~= 'end' or (at - extras < 2 or ARGV[extras + 1] ~= '1') then call('DEL', assignment_prefix .. task_id) end
        if record ~= '' then call('SET', result_prefix .. task_id, record, 'EX', ttl) end
      end
      publish(messages, count)
    end
  end
  if kind ~= 'also' then flags[#flags + 1] = stands and 1 or 0 end
end

release()
if putter then putter.finish() end
if not overtaken then call('HSET', commits, 'settle', commit .. ' ' .. table.concat(flags)) end
local reply = { fallen }
for index = 1, #flags do reply[index + 1] = flags[index] end
return reply
