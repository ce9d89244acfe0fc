--[[ Adding tasks: the core that enqueue and ingest share.

plan_tasks() checks everything and touches nothing; add_tasks() writes and cannot fail. Tasks stand in
a flat list, five values each from `from` on: id ('' = make one), kind, options, extra, payload. A
table per task would cost more than the task.
]]
local WIDTH = 5

-- `known` remembers the kinds of this call that were found sound.
local function check_task(id, kind, extra, payload, known)
  if #id > 128 or find(id, '[^\33-\126]') then return 'id must be 1 to 128 visible ASCII characters' end
  if not known[kind] then
    if #kind < 1 or #kind > 128 or find(kind, '[^%w._:-]') then return 'kind must match [A-Za-z0-9._:-]{1,128}' end
    known[kind] = true
  end
  if extra ~= '' then
    if #extra > MAX_EXTRA then return 'headers and unknown fields exceed ' .. MAX_EXTRA .. ' bytes' end
    if find(extra, '\n', 1, true) then return 'extra must be one line of JSON' end
  end
  if #payload > MAX_PAYLOAD then return 'payload exceeds ' .. MAX_PAYLOAD .. ' bytes' end
end

-- Options with relative times made absolute by Redis' clock, and their text.
local function parse_task_options(text, now)
  local options, why = parse_options(text)
  if not options then return nil, why end
  if options.delay then
    options.not_before = now + options.delay
    text = string.gsub(text, 'delay=[%d.]+', 'not_before=' .. int(options.not_before))
  end
  if options.expires_in then
    options.expires_at = now + options.expires_in
    text = string.gsub(text, 'expires_in=[%d.]+', 'expires_at=' .. int(options.expires_at))
  end
  options.head = (options.expires_at and 'e' or 'o') .. int(now) .. ' '
  options.tail = ' ' .. text .. '\n'
  return options
end

local function is_known(keys, id)
  return call('HEXISTS', keys[TASKS], id) == 1 or call('HEXISTS', keys[RESULTS], id) == 1
end

-- Looks at every task and every key that add_tasks() will write. Returns the plan, or nil and the reason.
local function plan_tasks(keys, list, from, unique, now)
  local n = (#list - from + 1) / WIDTH
  local plan = { now = now, n = n, from = from, options = {}, duplicate = {}, duplicates = 0 }
  local parsed, kinds, seen = {}, {}, {}
  for i = 1, n do
    local at = from + WIDTH * (i - 1)
    local id, text = list[at], list[at + 2]
    local wrong = check_task(id, list[at + 1], list[at + 3], list[at + 4], kinds)
    if wrong then return nil, 'task ' .. i .. ': ' .. wrong end
    if text ~= '' then
      -- Tasks of one call mostly choose the same: each text is parsed once.
      local options, why = parsed[text], nil
      if not options then
        options, why = parse_task_options(text, now)
        if not options then return nil, 'task ' .. i .. ': ' .. why end
        parsed[text] = options
      end
      plan.options[i] = options
    end
    if not unique and id ~= '' then
      if seen[id] or is_known(keys, id) then
        plan.duplicate[i], plan.duplicates = true, plan.duplicates + 1
      end
      seen[id] = true
    end
  end
  plan.paused = is_paused(keys)
  plan.sequence = tonumber(call('HGET', keys[STATE], 'seq') or '0')
  call('HLEN', keys[TASKS]); call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED])
  call('ZCARD', keys[EXPIRING]); call('HLEN', keys[WAITERS])
  plan.next_due = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2]
  check_stats(keys)
  return plan
end

local function made_id(now, sequence)
  return fmt('%08x-%04x-7%03x-8%03x-%012x', floor(now / 65536) % 4294967296, now % 65536,
    floor(sequence / 16777216) % 4096, floor(sequence / 4096) % 4096, sequence % 281474976710656)
end

-- Puts a task into the lists of what is written: `p` pending, `s` scheduled, `e` expiring.
local function place(plan, lists, id, options, sequence)
  local priority = options and options.priority or DEFAULT.priority
  local due = options and options.not_before
  local list, score = lists.pending, nil
  if due and due > plan.now then
    list, score = lists.scheduled, due_score(due, priority)
    plan.earliest = math.min(plan.earliest or due, due)
  else
    score = pending_score(priority, sequence)
  end
  list[#list + 1] = score; list[#list + 1] = id
  if options and options.expires_at then
    list = lists.expiring
    list[#list + 1] = int(options.expires_at); list[#list + 1] = id
  end
end

local function write(keys, lists, sequence)
  call('HSET', keys[STATE], 'seq', int(sequence))
  call('HSET', keys[TASKS], unpack(lists.records))
  if lists.pending[1] then call('ZADD', keys[PENDING], unpack(lists.pending)) end
  if lists.scheduled[1] then call('ZADD', keys[SCHEDULED], unpack(lists.scheduled)) end
  if lists.expiring[1] then call('ZADD', keys[EXPIRING], unpack(lists.expiring)) end
  if lists.awaited[1] then call('HSET', keys[WAITERS], unpack(lists.awaited)) end
end

-- Writes what was planned. Returns one letter a task (c created, d duplicate) and the made ids.
local function add_tasks(keys, list, plan, waiter)
  local lists = { records = {}, pending = {}, scheduled = {}, expiring = {}, awaited = {} }
  local letters, made, kinds, records, size = {}, {}, {}, lists.records, 0
  local now, sequence, plain = plan.now, plan.sequence, 'd' .. int(plan.now) .. ' '
  for i = 1, plan.n do
    if plan.duplicate[i] then
      letters[i] = 'd'
    else
      local at, options = plan.from + WIDTH * (i - 1), plan.options[i]
      local id, kind = list[at], list[at + 1]
      letters[i], sequence = 'c', sequence + 1
      if id == '' then id = made_id(now, sequence); made[#made + 1] = id end
      local head, tail = plain, '\n'
      if options then head, tail = options.head, options.tail end
      records[size + 1], records[size + 2] = id, head .. kind .. tail .. list[at + 3] .. '\n' .. list[at + 4]
      size = size + 2
      place(plan, lists, id, options, sequence)
      if waiter ~= '' then lists.awaited[#lists.awaited + 1] = id; lists.awaited[#lists.awaited + 1] = waiter end
      kinds[kind] = (kinds[kind] or 0) + 1
    end
  end
  if size > 0 then write(keys, lists, sequence) end
  bump(keys, now, { submitted = plan.n - plan.duplicates, duplicate = plan.duplicates }, { submitted = kinds })
  if lists.pending[1] and not plan.paused then wake(keys, #lists.pending / 2) end
  if plan.earliest and (not plan.next_due or plan.earliest < tonumber(plan.next_due)) then wake_maintainer(keys) end
  return table.concat(letters), made
end
