--[[ peek and ingest: raw JSON that any client pushed becomes tasks, or lands in `rejected`.

Two readers of one inbox are harmless: ingest moves only what still stands at the head, byte for
byte. A lost reply is too: the head has moved on, and the caller peeks again.

peek:   KEYS the shared keys, source list   ARGV most items, most bytes, optionally 'room'
        Reply the head items whole; an item over the byte limit as its length (an integer) alone. With 'room' the
        error FULL while the queue takes nothing new, so that who waits for room reads no items meanwhile, and else one
        item more than there is room for: if that one stays behind, the queue is full again
ingest: KEYS the shared keys, source list, rejected list   ARGV per item 5: raw | 'a' accept, 'r' reject,
        'o' reject unseen because of its length (raw = the length) | id or rejected entry (a JSON object; of 'o' bytes and
        raw are added to it), head, payload
        Reply how many items left the list, accepted, rejected. Refused under OOM. When the queue is full, what
        has no room stays in the list, which is its buffer; the error FULL if that is the very first item. A
        queue that sheds rejects items that are not more urgent than what is pending.
]]
local REJECTED_CAP, HEAD_BYTES, SHOWN_BYTES, ITEM = 1000, 1024, 65536, 5

-- The beginning of an item as a JSON string: `known` to be UTF-8, or else with a ? for what may not be.
local function quoted(text, most, known)
  text = sub(text, 1, most)
  if known then
    text = string.gsub(text, '[\192-\255][\128-\191]*$', '') -- it may be cut in the middle
  else
    text = string.gsub(text, '[\128-\255]', '?')
  end
  text = string.gsub(text, '["\\]', '\\%0')
  text = string.gsub(text, '%c', function(c) return fmt('\\u%04x', byte(c)) end)
  return '"' .. text .. '"'
end

local function peek(keys, argv)
  local source, most, room, items = keys[OWN + 1], tonumber(argv[1]), tonumber(argv[2]), {}
  if not most or not room then return refuse('peek takes the most items and the most bytes') end
  local limit = room
  if argv[3] == 'room' then
    local plan = { now = clock() }
    read_limit(keys, plan)
    local bounded = plan.limit and plan.policy ~= 'shed' -- one that sheds decides about each item, room or not
    if plan.max_bytes or bounded and plan.room == 0 then return full(keys, plan) end
    if bounded then most = math.min(most, plan.room + 1) end
  end
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
      argv[i + 2] = (match(argv[i + 2], '^({.*)}%s*$') or '{"reason":""') .. ',"bytes":' .. argv[i] .. ',"raw":' .. quoted(raw, HEAD_BYTES, false) .. '}'
    elseif raw ~= argv[i] then break end
    n = n + 1
  end
  return n
end

-- Which tasks of a full queue's plan can come in: marks the others in plan.refused, or cuts plan.n where the rest has to
-- wait. Answers how many of `victims` make room for them.
local function admit(plan, tasks, victims)
  local room, gone = plan.room, 0
  plan.refused = {}
  for i = 1, plan.n do
    if plan.max_bytes and not plan.duplicate[i] then
      plan.n = i - 1
      break
    end
    local priority = arrives_with(plan, tasks, i)
    local victim = victims[gone + 1]
    if priority and room > 0 then
      room = room - 1
    elseif priority and victim and victim.priority > priority then
      gone = gone + 1
    elseif priority and plan.policy == 'shed' and gone < MAX_SHED then
      plan.refused[i] = true
    elseif priority then
      plan.n = i - 1
      break
    end
  end
  return gone
end

-- From the first item on: the entries for the rejected list, how many items leave, and how many of them come in.
local function sort_items(argv, n, plan)
  local entries, task, moved, accepted = {}, 0, 0, 0
  for i = 1, n * ITEM, ITEM do
    local is_task = argv[i + 1] == 'a'
    if is_task then task = task + 1 end
    if task > plan.n then break end
    if not is_task then
      entries[#entries + 1] = argv[i + 2]
    elseif plan.refused and plan.refused[task] then
      local why = fmt('the queue is full (%d pending, max_pending=%d) and this is not more urgent', plan.depth, plan.limit)
      entries[#entries + 1] = '{"reason":"' .. why .. '","bytes":' .. #argv[i] .. ',"raw":' .. quoted(argv[i], SHOWN_BYTES, true) .. '}'
    else
      accepted = accepted + 1
    end
    moved = moved + 1
  end
  return entries, moved, accepted
end

local function tasks_of(argv, n)
  local tasks = {}
  for i = 1, n * ITEM, ITEM do
    if argv[i + 1] == 'a' then
      for j = i + 2, i + 4 do tasks[#tasks + 1] = argv[j] end
    end
  end
  return tasks
end

local function ingest(keys, argv)
  local source, rejected = keys[OWN + 1], keys[OWN + 2]
  if #argv < ITEM or #argv % ITEM ~= 0 or #argv > ITEM * MAX_BATCH then return refuse('ingest takes items of ' .. ITEM .. ' arguments') end
  local n = matching(source, argv)
  if n == 0 then return { 0, 0, 0 } end
  local now, tasks = clock(), tasks_of(argv, n)
  local plan, why = plan_tasks(keys, tasks, 1, false, now, '')
  if not plan then return refuse(why) end
  call('LLEN', rejected)
  local victims, gone = {}, 0
  if plan.limit then
    if plan.policy == 'shed' and not plan.max_bytes then
      check_finish(keys)
      victims = sheddable(keys)
    end
    gone = admit(plan, tasks, victims)
  end
  local entries, moved, accepted = sort_items(argv, n, plan)
  if moved == 0 then return full(keys, plan) end

  if gone > 0 then shed(keys, plan, victims, gone) end
  if accepted > 0 then add_tasks(keys, tasks, plan, '') end
  if entries[1] then
    call('LPUSH', rejected, unpack(entries))
    call('LTRIM', rejected, 0, REJECTED_CAP - 1)
    bump(keys, now, { rejected = #entries })
  end
  call('LTRIM', source, moved, -1)
  return { moved, accepted, #entries }
end

register('peek', peek, 'no-writes', { 'source list' })
register('ingest', ingest, nil, { 'source list', 'rejected list' })
