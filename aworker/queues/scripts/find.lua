-- Find payloads that contain a text, in a list or in the delayed set.
--
-- KEYS  1 list or delayed (zset)
-- ARGV  1 'list' or 'delayed'   2 most to return   3.. texts, any of which may occur
-- returns the list's payloads, or the delayed set's whole members
-- Invariant: reads only; the list cannot move while it looks.

local STEP = 1000
local found = {}
local length = ARGV[1] == 'list' and redis.call('LLEN', KEYS[1]) or redis.call('ZCARD', KEYS[1])
for from = 0, length - 1, STEP do
  for _, member in ipairs(redis.call(ARGV[1] == 'list' and 'LRANGE' or 'ZRANGE', KEYS[1], from, from + STEP - 1)) do
    for text = 3, #ARGV do
      if string.find(member, ARGV[text], 1, true) then
        found[#found + 1] = member
        break
      end
    end
    if #found >= tonumber(ARGV[2]) then return found end
  end
end
return found
