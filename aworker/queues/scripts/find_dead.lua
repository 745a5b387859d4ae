-- Find the newest dead letter of a task among some entries.
--
-- KEYS  1 dead (stream)
-- ARGV  1 task id   2 the id to begin at, going back   3 most entries to look at
-- returns { its id or '', the id of the last entry looked at, or '' when there are no more }
-- Invariant: reads only, at most ARGV 3 entries.

local entries = redis.call('XREVRANGE', KEYS[1], ARGV[2], '-', 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  for at = 1, #entry[2], 2 do
    if entry[2][at] == 'task_id' and entry[2][at + 1] == ARGV[1] then return { entry[1], '' } end
  end
end
return { '', #entries == tonumber(ARGV[3]) and entries[#entries][1] or '' }
