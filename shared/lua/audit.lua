--[[ The audit: what operators did, noted by the very function that did it.

`audit` is a stream of the queue, capped at about 10,000 entries: who, what, count, detail. When it was stands in
the entry's id, by Redis' clock. Only what changed something is noted; a step of a purge adds to the entry of the
last one. `who` is `<user of Redis> <name>` as the client tells it: no function can see whose connection calls it.
]]
local AUDIT_CAP, MAX_WHO, SHOWN_IDS, SAME_ACT = 10000, 256, 10, 60000

-- Why the act cannot be noted, nil if it can. Reads the stream: a wrong type fails before the first write.
local function check_audit(audit, who)
  if not audit then return refuse('the key of the audit must stand behind the other keys') end
  if not who or #who > MAX_WHO or find(who, '%c') then return refuse('who must be one line of at most ' .. MAX_WHO .. ' bytes') end
  call('XLEN', audit)
end

local function note(audit, who, what, count, detail)
  call('PERSIST', audit) -- of a queue that was removed and is used again
  call('XADD', audit, 'MAXLEN', '~', AUDIT_CAP, '*', 'who', who, 'what', what, 'count', int(count), 'detail', detail)
end

-- As note(), for an act of many calls: they are one entry while they follow each other.
local function note_step(audit, who, what, count, detail, now)
  local last = call('XREVRANGE', audit, '+', '-', 'COUNT', 1)[1]
  local f = last and last[2]
  if f and #f == 8 and f[2] == who and f[4] == what and f[8] == detail and now - tonumber(match(last[1], '^%d+')) < SAME_ACT then
    call('XDEL', audit, last[1])
    count = count + (tonumber(f[6]) or 0)
  end
  note(audit, who, what, count, detail)
end

-- The first of the ids, and how many there were.
local function note_ids(audit, who, what, ids)
  if not ids[1] then return end
  note(audit, who, what, #ids, table.concat(ids, ' ', 1, math.min(#ids, SHOWN_IDS)) .. (#ids > SHOWN_IDS and ' ...' or ''))
end
