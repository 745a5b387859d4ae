-- Look at a few entries of what may be long, each cut to a length, so that a page costs the same whatever is in there.
--
-- KEYS  1 list, delayed (zset), dead letters (stream) or leases (hash)
-- ARGV  1 'list', 'delayed', 'dead', 'lease' or 'created'
--       2 index of the first entry; for dead letters the id to begin at, going back; for a lease its id
--       3 most entries   4 most bytes of each payload and text
-- returns { how many there are, then for each entry: its mark (index, due ms, id), length of its payload, its payload
--         cut, and for a dead letter { field, value, .. } of the rest, cut }; 'created' returns the length of a list and
--         the created_at texts of those that have one among the ARGV 3 payloads next to each end
-- Invariant: reads only, at most ARGV 3 entries, of 'created' twice as many.

local kind, from, count, cut = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
local function add(mark, payload, rest)
  found[#found + 1] = mark
  found[#found + 1] = #payload
  found[#found + 1] = string.sub(payload, 1, cut)
  if rest then found[#found + 1] = rest end
end
if kind == 'list' then
  found[1] = redis.call('LLEN', KEYS[1])
  -- None at all would be spelled as the whole list.
  for index, payload in ipairs(count > 0 and redis.call('LRANGE', KEYS[1], from, from + count - 1) or {}) do
    add(tostring(from + index - 1), payload)
  end
elseif kind == 'delayed' then
  found[1] = redis.call('ZCARD', KEYS[1])
  local entries = redis.call('ZRANGE', KEYS[1], from, from + count - 1, 'WITHSCORES')
  for at = 1, #entries, 2 do add(entries[at + 1], entries[at]) end
elseif kind == 'lease' then
  local entry = redis.call('HGET', KEYS[1], from)
  found[1] = entry and 1 or 0
  if entry then add(from, entry) end
elseif kind == 'created' then
  local length, looked = redis.call('LLEN', KEYS[1]), 0
  found[1] = length
  local payloads = redis.call('LRANGE', KEYS[1], 0, count - 1)
  for _, payload in ipairs(redis.call('LRANGE', KEYS[1], math.max(count, length - count), -1)) do
    payloads[#payloads + 1] = payload
  end
  for order = 1, #payloads do
    -- From the ends inwards; a large payload is not decoded, and so many bytes are enough.
    local payload = payloads[order % 2 == 1 and (order + 1) / 2 or #payloads + 1 - order / 2]
    looked = looked + math.min(#payload, 16384)
    if looked > 262144 then break end
    local readable, task = #payload <= 16384, nil
    if readable then readable, task = pcall(cjson.decode, payload) end
    local created = readable and type(task) == 'table' and task.created_at
    if not readable then created = string.match(string.sub(payload, -1024), '.*"created_at"%s*:%s*"([^"]*)"') end
    if type(created) == 'string' then found[#found + 1] = string.sub(created, 1, 64) end
  end
else
  found[1] = redis.call('XLEN', KEYS[1])
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', count)) do
    local payload, rest = '', {}
    for at = 1, #entry[2], 2 do
      if entry[2][at] == 'payload' then
        payload = entry[2][at + 1]
      else
        rest[#rest + 1] = entry[2][at]
        rest[#rest + 1] = string.sub(entry[2][at + 1], 1, cut)
      end
    end
    add(entry[1], payload, rest)
  end
end
return found
