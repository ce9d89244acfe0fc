--[[ peek and ingest: raw JSON that any client pushed becomes tasks, or lands in `rejected`.

Two readers of one inbox are harmless: ingest moves only what still stands at the head, byte for
byte. A lost reply is too: the head has moved on, and the caller peeks again.

peek:   KEYS the shared keys, source list   ARGV most items, most bytes
        Reply the head items whole; an item over the byte limit as its length (an integer) alone
ingest: KEYS the shared keys, source list, rejected list   ARGV per item 5: raw | 'a' accept, 'r' reject,
        'o' reject unseen because of its length (raw = the length) | id or rejected entry, head, payload
        Reply how many items left the list, accepted, rejected. Refused under OOM.
]]
local REJECTED_CAP, HEAD_BYTES, ITEM = 1000, 1024, 5

local function peek(keys, argv)
  local source, most, room, items = keys[OWN + 1], tonumber(argv[1]), tonumber(argv[2]), {}
  local limit = room
  for i = 0, most - 1 do
    local raw = call('LINDEX', source, i)
    if not raw then break end
    if #raw > limit then
      items[#items + 1] = #raw
      room = 0
    else
      room = room - #raw
      if room < 0 and i > 0 then break end
      items[#items + 1] = raw
    end
    if room <= 0 then break end
  end
  return items
end

-- How many of the items are still what the caller saw, from the head on.
local function matching(source, argv)
  local n = 0
  for i = 1, #argv, ITEM do
    local raw = call('LINDEX', source, n)
    if not raw then break end
    if argv[i + 1] == 'o' then
      if int(#raw) ~= argv[i] then break end
      argv[i + 2] = argv[i + 2] .. sub(raw, 1, HEAD_BYTES)
    elseif raw ~= argv[i] then break end
    n = n + 1
  end
  return n
end

local function ingest(keys, argv)
  local source, rejected = keys[OWN + 1], keys[OWN + 2]
  if #argv < ITEM or #argv % ITEM ~= 0 or #argv > ITEM * MAX_BATCH then return refuse('ingest takes items of ' .. ITEM .. ' arguments') end
  local n = matching(source, argv)
  if n == 0 then return { 0, 0, 0 } end
  local now, tasks, refused = clock(), {}, {}
  for i = 1, n * ITEM, ITEM do
    if argv[i + 1] == 'a' then
      for j = i + 2, i + 4 do tasks[#tasks + 1] = argv[j] end
    else
      refused[#refused + 1] = argv[i + 2]
    end
  end
  local plan, why = plan_tasks(keys, tasks, 1, false, now)
  if not plan then return refuse(why) end
  call('LLEN', rejected)

  if tasks[1] then add_tasks(keys, tasks, plan, '') end
  if refused[1] then
    call('LPUSH', rejected, unpack(refused))
    call('LTRIM', rejected, 0, REJECTED_CAP - 1)
    bump(keys, now, { rejected = #refused })
  end
  call('LTRIM', source, n, -1)
  return { n, #tasks / WIDTH, #refused }
end

register('peek', peek, 'no-writes')
register('ingest', ingest)
