#!lua flags=allow-oom
-- Take up to `want` tasks, highest level first, oldest first, and write each into this worker's leases.
--
-- KEYS  1 workers (zset worker -> deadline ms)   2 leases of this worker (hash lease_id -> header \n payload)
--       3 deliveries (hash sha1 -> counted deliveries)   4 lease id counter   5 ends (hash)
--       6 commits of this worker (hash)   7 claimed (hash task_id -> lease_id)   8.. the levels' lists, highest first
-- ARGV  1 worker   2 lease ttl ms   3 now ms or ''   4 commit number   5 result key prefix   6 want   7 limits JSON or ''
--       then for each level: promote_after ms, take_from (auto|left|right), room below it (-1 = no limit),
--       '1' to ask it or '0' to leave it out, scan cursor
-- returns { {lease_id, level, delivery, suspicion, registered task_id, payload}.. flattened,
--           then for each level a state 'empty' | 'more' | 'passed' | 'skipped' | 'wrong' (no list), its next cursor, and
--           how many tasks were passed over because of a limit (-1 = not looked at); the state is 'passed 40' where a
--           rate lets the next task through in 40 ms },
--         claims first: { number of claims, claims.., states.. }
-- Invariant: a payload leaves its list and enters the leases in this one step; sent again with the same commit number
--            the script answers with the leases it made the first time, and a late copy of an older commit takes nothing.
--            Nothing that can fail comes after the first pop: what a script has done before its error stays done.

local PASSES = 100          -- payloads passed over in one ask of one level
local PASS_BYTES = 65536    -- or this many bytes of them
local STEP = 50             -- payloads read at once
local NEAR = 10             -- payloads next to each end that are looked at where the ends tie
local HEAD = 20             -- of which this many are always those next to the taking end
local HEAD_BYTES = 16384
local READABLE = 16384      -- larger payloads are not decoded here
local READABLE_WHOLE = 1048576 -- but where a limit over all workers may hold them back

local call, match, find, format = redis.call, string.match, string.find, string.format
local worker, ttl, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local commit, result_prefix, want = ARGV[4], ARGV[5], tonumber(ARGV[6])
local limits = ARGV[7] ~= '' and cjson.decode(ARGV[7]) or nil
local levels = #KEYS - 7
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

call('ZADD', KEYS[1], format('%.0f', now + ttl), worker)

local reply = { 0 }

-- The same commit again: its reply was lost on the way. An older one: it was overtaken and nobody waits for its reply.
local done, settled = unpack(call('HMGET', KEYS[6], 'claim', 'settle'))
local claimed_by = done and tonumber(match(done, '^%d+')) or 0
local settled_by = settled and tonumber(match(settled, '^%d+')) or 0
if claimed_by == tonumber(commit) or math.max(claimed_by, settled_by) > tonumber(commit) then
  local position = {}
  for level = 1, levels do position[KEYS[7 + level]] = level - 1 end
  for id in string.gmatch(claimed_by == tonumber(commit) and match(done, ' (.*)$') or '', '%d+') do
    local entry = call('HGET', KEYS[2], id)
    if entry then
      local head, body = match(entry, '^([^\n]*)\n(.*)$')
      local delivery, suspicion, queue, registered = match(head, '^(%d+) (%a+) %d+ "([^"]*)" (.*)$')
      reply[1] = reply[1] + 1
      for _, value in ipairs({ id, position[queue] or 0, delivery, suspicion, registered, body }) do
        reply[#reply + 1] = value
      end
    end
  end
  for _ = 1, levels do
    reply[#reply + 1] = 'more'
    reply[#reply + 1] = 0
    reply[#reply + 1] = -1
  end
  return reply
end

local function days_before(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local shifted = (month + 9) % 12
  local day_of_year = math.floor((153 * shifted + 2) / 5) + day - 1
  return era * 146097 + year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100) + day_of_year - 719468
end

local function instant_ms(text)
  local year, month, day, hour, minute, rest = match(text, '^%s*(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d)(.*)$')
  if not year then return nil end
  local seconds, zone = match(rest, '^:(%d%d%.?%d*)(.*)$')
  local at = days_before(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + (tonumber(seconds) or 0)
  local sign, hours, minutes = match(zone or rest, '^%s*([+-])(%d%d):?(%d?%d?)')
  if sign then
    local offset = hours * 3600 + (tonumber(minutes) or 0) * 60
    at = at - (sign == '-' and -offset or offset)
  end
  return at * 1000
end

local function decoded(payload, whole)
  if #payload > (whole and READABLE_WHOLE or READABLE) then return nil end
  local readable, task = pcall(cjson.decode, payload)
  if readable and type(task) == 'table' then return task end
  return nil
end

-- created_at (ms or nil) and task_id (or nil) of a payload, as far as they can be read cheaply.
local function identity(payload)
  local task = decoded(payload)
  if task then
    local created = type(task.created_at) == 'string' and instant_ms(task.created_at) or nil
    return created, type(task.task_id) == 'string' and task.task_id or nil
  end
  local created = match(string.sub(payload, -1024), '.*"created_at"%s*:%s*"([^"]*)"')
  return created and instant_ms(created) or nil, nil
end

-- Which end is older where the ends themselves tie: the task ids near them, if those that are alike but for the number
-- they end in count all one way. Nil when they do not.
local function older_by_numbers(key, length)
  local near = call('LRANGE', key, 0, NEAR - 1)
  if length > NEAR then
    for _, payload in ipairs(call('LRANGE', key, math.max(NEAR, length - NEAR), -1)) do near[#near + 1] = payload end
  end
  local last, up, down = {}, 0, 0
  for _, payload in ipairs(near) do
    local _, task_id = identity(payload)
    local word, number = match(task_id or '', '^(.-)0*(%d+)$')
    if word then
      word = string.gsub(word, '%d+', '#')
      local before = last[word]
      if before and before ~= number then
        if #before < #number or (#before == #number and before < number) then up = up + 1 else down = down + 1 end
      end
      last[word] = number
    end
  end
  if up > 0 and down == 0 then return 'left' end
  if down > 0 and up == 0 then return 'right' end
  return nil
end

-- A list's taking end and when it was compared, as kept in `ends`: all of them read at once, since each call counts.
local ends = {}

local function keep(key, side, checked)
  ends[key] = side .. ' ' .. checked
  call('HSET', KEYS[5], key, ends[key])
end

-- The end of a list whose task is the older one: asked at most once a second and when the list was empty before.
local function taking_end(key, policy)
  local kept = ends[key]
  if policy ~= 'auto' then
    -- Written down for what puts tasks back without knowing the configuration.
    if not kept or match(kept, '^%a+') ~= policy then keep(key, policy, '0') end
    return policy
  end
  local side, checked = match(kept or 'right 0', '^(%a+) (%d+)$')
  if now - tonumber(checked) < 1000 and now >= tonumber(checked) then return side end
  if call('LLEN', key) < 2 then return side end
  local left, right = call('LINDEX', key, 0), call('LINDEX', key, -1)
  local moved = call('HGET', KEYS[5], 'moved ' .. key)
  if moved and (find(moved, redis.sha1hex(left), 1, true) or find(moved, redis.sha1hex(right), 1, true)) then
    -- Somebody put it there: its age says nothing about the list.
    keep(key, side, format('%.0f', now))
    return side
  end
  local left_created, right_created = identity(left), identity(right)
  if left_created and right_created and left_created ~= right_created then
    side = left_created < right_created and 'left' or 'right'
  elseif left_created == right_created then
    side = older_by_numbers(key, call('LLEN', key)) or side
  end
  keep(key, side, format('%.0f', now))
  return side
end

local aging = false

local function found_empty(key)
  local kept = ends[key]
  if kept and string.sub(kept, -2) ~= ' 0' then
    keep(key, match(kept, '^%a+'), '0')
    call('HDEL', KEYS[5], 'moved ' .. key)
  end
  if aging then call('HDEL', KEYS[5], 'seen ' .. key) end
end

-- When the task at the end began to wait: its created_at, or when it was first seen there if that is not plausible.
local function waiting_since(key, payload)
  local created = identity(payload)
  if created and created <= now and now - created <= 86400000 then return created end
  local mark = redis.sha1hex(payload)
  local seen_mark, seen_at = match(call('HGET', KEYS[5], 'seen ' .. key) or '', '^(%x+) (%d+)$')
  if seen_mark == mark then return tonumber(seen_at) end
  call('HSET', KEYS[5], 'seen ' .. key, mark .. ' ' .. format('%.0f', now))
  return now
end

local level = {}
for index = 1, levels do
  local at = 7 + (index - 1) * 5
  local promote = tonumber(ARGV[at + 1])
  local asked, state = ARGV[at + 4] == '1', 'more'
  if asked then
    local length = redis.pcall('LLEN', KEYS[7 + index])
    if length == 0 then
      asked, state = false, 'empty'
    elseif type(length) ~= 'number' then
      asked, state = false, 'wrong'
    end
  else
    state = 'skipped'
  end
  level[index] = {
    key = KEYS[7 + index], index = index - 1, promote = promote, below = tonumber(ARGV[at + 3]),
    asked = asked, passed = -1, cursor = ARGV[at + 5], take_from = ARGV[at + 2], state = state,
  }
  aging = aging or promote > 0
end
local kept = call('HMGET', KEYS[5], unpack(KEYS, 8))
for index = 1, levels do
  ends[KEYS[7 + index]] = kept[index] or nil
  if level[index].state == 'empty' then found_empty(KEYS[7 + index]) end
end

local claims = {}   -- {level, payload, what it uses of limits over all workers}
local uses          -- that, of the payload that was looked at last

-- How many more tasks a level may give: the room left below every level above it.
local function room(index)
  local most = want - #claims
  for above = 1, index - 1 do
    local below = level[above].below
    if below >= 0 and below < most then most = below end
  end
  return most
end

local function take(index, payload)
  claims[#claims + 1] = { level[index], payload, uses }
  uses = nil
  for above = 1, index - 1 do
    if level[above].below > 0 then level[above].below = level[above].below - 1 end
  end
end

-- Limits over all workers, by task type. A share of one is a lease id under its type, and counts while that lease stands
-- where it was made: nothing gives it back, so a worker that died has none from when its leases were taken over.
local totals = limits and limits.totals or {}
local running, tats = {}, {}

local function running_of(task_type)
  local key, counts, gone = limits.prefix .. 'running:' .. task_type, { total = 0, users = {} }, {}
  local shares = call('HGETALL', key)
  for at = 1, #shares, 2 do
    local holder, user = match(shares[at + 1], '^(%S+) (.*)$')
    if call('HEXISTS', limits.leases .. holder, shares[at]) == 1 then
      counts.total = counts.total + 1
      counts.users[user] = (counts.users[user] or 0) + 1
    else
      gone[#gone + 1] = shares[at]
    end
  end
  for from = 1, #gone, 1000 do call('HDEL', key, unpack(gone, from, math.min(from + 999, #gone))) end
  return counts
end
for task_type in pairs(totals) do running[task_type] = running_of(task_type) end

local soonest = math.huge   -- in so many ms a rate lets the next task through

-- A rate as the instant at which all that it let through would be over, one after the other; further ahead of the clock
-- than its burst is the clock's own jump.
local function is_too_fast(key, rate)
  if not tats[key] then tats[key] = { at = tonumber(call('GET', key) or 0), rate = rate } end
  local room = (rate.burst - 1) * rate.every
  local ahead = math.min(math.max(tats[key].at - now, 0), rate.burst * rate.every)
  tats[key].at = now + ahead
  if ahead <= room then return false end
  soonest = math.min(soonest, ahead - room)
  return true
end

-- Whether a limit over all workers keeps a task waiting; notes what it uses when none does.
local function is_over_total(total, task_type, user)
  local counts = running[task_type]
  if total.most and counts.total >= total.most then return true end
  if user and total.user_most and (counts.users[user] or 0) >= total.user_most then return true end
  local rates = {}
  if total.rate then rates[limits.prefix .. 'rate:' .. task_type] = total.rate end
  if user and total.user_rate then rates[limits.prefix .. 'rate:' .. task_type .. ':' .. user] = total.user_rate end
  for key, rate in pairs(rates) do
    if is_too_fast(key, rate) then return true end
  end
  for key, rate in pairs(rates) do tats[key].at, tats[key].used = tats[key].at + rate.every, true end
  counts.total = counts.total + 1
  if user then counts.users[user] = (counts.users[user] or 0) + 1 end
  uses = { task_type, user or '' }
  return false
end

-- Whether a limit keeps this payload in its list; counts it when none does.
local function held_back(payload)
  local near, whole = limits.user_room ~= nil, false
  for name in pairs(totals) do
    if find(payload, name, 1, true) then near, whole = true, true break end
  end
  if not near then
    for name in pairs(limits.types) do
      if find(payload, name, 1, true) then near = true break end
    end
  end
  local task = near and decoded(payload, whole)
  if not task then return false end
  local type_room = type(task.task_type) == 'string' and limits.types[task.task_type] or nil
  local user = type(task.args) == 'table' and task.args.user_id or nil
  if type(user) == 'number' then user = format('%.0f', user) end
  if type(user) ~= 'string' then user = nil end
  local user_room = user and (limits.users[user] or limits.user_room)
  if (type_room and type_room <= 0) or (user_room and user_room <= 0) then return true end
  local total = type(task.task_type) == 'string' and totals[task.task_type]
  if total and is_over_total(total, task.task_type, user) then return true end
  if type_room then limits.types[task.task_type] = type_room - 1 end
  if user_room then limits.users[user] = user_room - 1 end
  return false
end

-- Take payloads off the taking end that were looked at and that no limit holds back.
local function take_off(entry, side, count)
  if count == 0 then
    return
  elseif side == 'right' then
    call('LTRIM', entry.key, 0, -(count + 1))
  else
    call('LTRIM', entry.key, count, -1)
  end
end

-- Claim what no limit holds back among the payloads from `first` on, counted from the taking end, until `passes`
-- payloads or `bytes` of them were passed over; returns how many were.
local function scan(entry, position, side, first, passes, bytes)
  local passed = 0
  while passed < passes and bytes > 0 and room(position) > 0 do
    local from = first + passed
    local step = math.max(10, math.min(STEP, room(position)))
    local list
    if side == 'right' then
      list = call('LRANGE', entry.key, -(from + step), -(from + 1))
    else
      list = call('LRANGE', entry.key, from, from + step - 1)
    end
    local off = 0     -- taken from the very end so far: they go together
    for order = 1, #list do
      if passed >= passes or bytes <= 0 or room(position) <= 0 then break end
      local payload = side == 'right' and list[#list + 1 - order] or list[order]
      if held_back(payload) then
        -- Before anything is removed by its value: an equal payload further off must not be met first.
        take_off(entry, side, off)
        passed, bytes, off = passed + 1, bytes - #payload, 0
      else
        if from == 0 and passed == 0 then
          off = off + 1
        else
          call('LREM', entry.key, side == 'right' and -1 or 1, payload)
        end
        take(position, payload)
      end
    end
    take_off(entry, side, off)
    if #list < step then break end
  end
  return passed
end

local function claim_past_limits(entry, position)
  local side = taking_end(entry.key, entry.take_from)
  local before = #claims
  local passed = scan(entry, position, side, 0, HEAD, HEAD_BYTES)
  -- What was just taken stood before the cursor: the rest has moved up.
  local first = math.max(tonumber(entry.cursor) - (#claims - before), passed)
  if room(position) > 0 and first < call('LLEN', entry.key) then
    local further = scan(entry, position, side, first, PASSES - HEAD, PASS_BYTES - HEAD_BYTES)
    entry.cursor, passed = first + further, passed + further
  end
  entry.passed = math.max(entry.passed, passed)
  local length = call('LLEN', entry.key)
  if tonumber(entry.cursor) >= length then entry.cursor = 0 end
  if length == 0 then
    entry.state = 'empty'
    found_empty(entry.key)
  elseif room(position) > 0 then
    entry.state = 'passed'
  end
end

local function claim_plain(entry, position)
  local count = room(position)
  if count <= 0 then return end
  entry.passed = 0
  local side = taking_end(entry.key, entry.take_from)
  local payloads = call(side == 'right' and 'RPOP' or 'LPOP', entry.key, count)
  if payloads then
    for step = 1, #payloads do take(position, payloads[step]) end
  end
  if not payloads or #payloads < count then
    entry.state = 'empty'
    found_empty(entry.key)
  end
end

-- With aging the level is chosen anew for each task: rank = position less one for each promote_after waited; the lower
-- rank goes first, then the older task, then the higher level.
local RUN = 16              -- payloads read at once

local function rank_of(entry, position, since)
  return entry.promote > 0 and position - math.floor((now - since) / entry.promote) or position
end

local function goes_before(rank, since, position, other)
  if rank ~= other.rank then return rank < other.rank end
  if since ~= other.since then return since < other.since end
  return position < other.position
end

-- Take from one level for as long as its tasks go before the first one of `second`; returns how many it took.
local function claim_run(entry, position, second)
  local side = taking_end(entry.key, entry.take_from)
  local most = math.min(RUN, room(position))
  local list = side == 'right' and call('LRANGE', entry.key, -most, -1) or call('LRANGE', entry.key, 0, most - 1)
  local taken = 0
  while taken < #list do
    local payload = side == 'right' and list[#list - taken] or list[taken + 1]
    local since = waiting_since(entry.key, payload)
    if second and not goes_before(rank_of(entry, position, since), since, position, second) then break end
    if limits and held_back(payload) then break end
    take(position, payload)
    taken = taken + 1
  end
  take_off(entry, side, taken)
  if taken > 0 then entry.passed = math.max(entry.passed, 0) end
  -- What was taken stood before the cursor: the rest has moved up.
  entry.cursor = math.max(0, tonumber(entry.cursor) - taken)
  return taken
end

local function claim_aged()
  local heads = {}          -- what stands at the taking end of each level, until something is taken there
  while #claims < want do
    local best, second
    for position = 1, levels do
      local entry = level[position]
      if entry.asked and entry.state == 'more' and room(position) > 0 then
        if not heads[position] then
          local side = taking_end(entry.key, entry.take_from)
          local payload = call('LINDEX', entry.key, side == 'right' and -1 or 0)
          if payload then
            local since = waiting_since(entry.key, payload)
            heads[position] = { rank = rank_of(entry, position, since), since = since, position = position }
          else
            entry.state = 'empty'
            found_empty(entry.key)
          end
        end
        local head = heads[position]
        if head then
          if not best or goes_before(head.rank, head.since, position, best) then
            best, second = head, best
          elseif not second or goes_before(head.rank, head.since, position, second) then
            second = head
          end
        end
      end
    end
    if not best then return end
    local entry = level[best.position]
    heads[best.position] = nil
    if claim_run(entry, best.position, second) == 0 then
      local before, full = #claims, want
      want = before + 1
      claim_past_limits(entry, best.position)
      want = full
      if #claims == before and entry.state == 'more' then entry.state = 'passed' end
    end
  end
end

if aging then
  claim_aged()
else
  for position = 1, levels do
    local entry = level[position]
    if entry.asked and room(position) > 0 then
      if limits then claim_past_limits(entry, position) else claim_plain(entry, position) end
    end
  end
end

if #claims > 0 then
  -- Never below the clock: a server that crashed may have lost the counter's last second, and an id given twice would
  -- let an old lease settle a new task.
  local first = math.max(tonumber(call('GET', KEYS[4]) or 0), now * 1000)
  call('SET', KEYS[4], format('%.0f', first + #claims))
  local counted = call('HLEN', KEYS[3]) > 0

  -- The task_ids, so that a second push of one is noticed: read by pattern where it stands once, else decoded.
  local named, asked, record_keys = {}, {}, {}
  for order = 1, #claims do
    local payload = claims[order][2]
    local _, stop, task_id = find(payload, '"task_id"%s*:%s*"([^"\\%c]+)"')
    if task_id and find(payload, '"task_id"', stop, true) then
      local task = decoded(payload)
      task_id = task and type(task.task_id) == 'string' and task.task_id or nil
    end
    if task_id and #task_id <= 256 and not find(task_id, '%c') then
      named[order] = task_id
      asked[#asked + 1] = task_id
      record_keys[#record_keys + 1] = result_prefix .. task_id
    end
  end
  -- Asked for all of them at once: each call counts.
  local is_leased, recorded = {}, 0
  for from = 1, #asked, 1000 do
    local to = math.min(from + 999, #asked)
    local holders = call('HMGET', KEYS[7], unpack(asked, from, to))
    for index = from, to do is_leased[asked[index]] = holders[index - from + 1] end
    recorded = recorded + call('EXISTS', unpack(record_keys, from, to))
  end

  local ids, fields, register = {}, {}, {}
  local at_ms = format(' %.0f "', now)
  for order = 1, #claims do
    local entry, payload = claims[order][1], claims[order][2]
    local id = format('%.0f', first + order)
    local delivery = 1
    if counted then delivery = 1 + tonumber(call('HGET', KEYS[3], redis.sha1hex(payload)) or 0) end

    local task_id, suspicion, registered = named[order], 'none', ''
    if not task_id then
      suspicion = 'unread'
    elseif is_leased[task_id] then
      suspicion = 'lease'
    else
      registered, is_leased[task_id] = task_id, id
      register[#register + 1] = task_id
      register[#register + 1] = id
      if recorded > 0 and call('EXISTS', result_prefix .. task_id) == 1 then suspicion = 'record' end
    end

    fields[#fields + 1] = id
    fields[#fields + 1] = delivery .. ' ' .. suspicion .. at_ms .. entry.key .. '" ' .. registered .. '\n' .. payload
    if #fields >= 1000 then
      call('HSET', KEYS[2], unpack(fields))
      fields = {}
    end
    local share = claims[order][3]
    if share then call('HSET', limits.prefix .. 'running:' .. share[1], id, worker .. ' ' .. share[2]) end
    ids[order] = id
    local at = 6 * order - 4
    reply[at], reply[at + 1], reply[at + 2] = id, entry.index, delivery
    reply[at + 3], reply[at + 4], reply[at + 5] = suspicion, registered, payload
  end
  if #fields > 0 then call('HSET', KEYS[2], unpack(fields)) end
  for from = 1, #register, 1000 do
    call('HSET', KEYS[7], unpack(register, from, math.min(from + 999, #register)))
  end
  for key, tat in pairs(tats) do
    if tat.used then call('SET', key, format('%.3f', tat.at), 'PX', format('%.0f', math.ceil(tat.at - now) + 60000)) end
  end
  call('HSET', KEYS[6], 'claim', commit .. ' ' .. table.concat(ids, ' '))
  reply[1] = #claims
end

for index = 1, levels do
  local state = level[index].state
  if state == 'passed' and soonest < math.huge then state = format('passed %.0f', math.ceil(soonest)) end
  reply[#reply + 1] = state
  reply[#reply + 1] = level[index].cursor
  reply[#reply + 1] = level[index].state == 'empty' and 0 or level[index].passed
end
return reply
