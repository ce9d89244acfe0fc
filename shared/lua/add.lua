--[[ Adding tasks: the core that enqueue and ingest share.

plan_tasks() checks everything and touches nothing; add_tasks() writes and cannot fail. Tasks stand in
a flat list, three values each from `from` on: id ('' = make one), head, payload. A head is
`kind[ option=value ...][ LF extra JSON]`; tasks of one call mostly share it, so each is parsed once,
and a table per task would cost more than the task.
]]
local WIDTH = 3

local read_head -- (head, now): a head as a table, or nil and the reason

do
  -- In the text of options a relative time as the absolute one. Of both the relative one holds, and an option must not
  -- stand twice: a record with one that does has none at all.
  local function replaced(text, relative, name, at)
    text = string.gsub(string.gsub(text, name .. '=[%d.]+ ?', ''), relative .. '=[%d.]+', name .. '=' .. int(at))
    return (string.gsub(text, ' $', ''))
  end

  -- Options with relative times made absolute by Redis' clock, and their text.
  local function absolute(options, text, now)
    if options.delay then
      options.not_before = now + options.delay
      text = replaced(text, 'delay', 'not_before', options.not_before)
    end
    if options.expires_in then
      options.expires_at = now + options.expires_in
      text = replaced(text, 'expires_in', 'expires_at', options.expires_at)
    end
    return text
  end

  -- 1973 in milliseconds, the year 5138 in seconds: what is below was meant as seconds, and would run, or expire, at once.
  local LEAST_INSTANT = 100000000000
  -- The end of the year 9999 in milliseconds, of 1978 in microseconds: what is above was meant as these, and would never run.
  local MOST_INSTANT = 253402300799999

  local function in_another_unit(options)
    for _, name in ipairs { 'not_before', 'expires_at' } do
      local at, unit, meant = options[name], nil, nil
      if at and at > 0 and at < LEAST_INSTANT then unit, meant = 'seconds', int(at) .. '000' end
      if at and at > MOST_INSTANT then unit, meant = 'microseconds', int(floor(at / 1000)) end
      if unit then
        return name .. ' must be milliseconds since 1970: ' .. int(at) .. ' looks like ' .. unit .. ' (give ' .. meant .. ')'
      end
    end
  end

  -- A head as a table: kind, options, and `start`, what its records begin with. Or nil and the reason.
  local function parse_head(head, now)
    local line, extra = match(head, '^([^\n]*)\n?(.*)$')
    local kind, text = match(line, '^([^ ]*) ?(.*)$')
    if not is_kind(kind) then return nil, KIND_RULE end
    if #extra > MAX_EXTRA then return nil, 'headers and unknown fields exceed ' .. MAX_EXTRA .. ' bytes' end
    if find(extra, '\n', 1, true) then return nil, 'extra must be one line of JSON' end
    if text == '' then
      return { kind = kind, priority = DEFAULT.priority, flag = 'd', rest = ' ' .. kind .. '\n' .. extra .. '\n' }
    end
    local options, why = parse_options(text)
    if not options then return nil, why end
    why = in_another_unit(options)
    if why then return nil, why end
    local relative = options.delay or options.expires_in
    text = absolute(options, text, now)
    return {
      kind = kind, priority = options.priority or DEFAULT.priority,
      step = options.type and options.type ~= 'single',
      due = options.not_before, expires_at = options.expires_at, relative = relative,
      flag = options.expires_at and 'e' or 'o', rest = ' ' .. kind .. ' ' .. text .. '\n' .. extra .. '\n',
    }
  end

  -- Heads of earlier calls: a producer sends few different ones, and parsing costs more than adding a task. One with relative
  -- times means another thing in every call.
  local MAX_KNOWN, LONGEST_KNOWN = 256, 256
  local known_heads, known_count = {}, 0

  function read_head(head, now)
    local parsed = known_heads[head]
    if not parsed then
      local why
      parsed, why = parse_head(head, now)
      if not parsed then return nil, why end
      if not parsed.relative and #head <= LONGEST_KNOWN then
        if known_count >= MAX_KNOWN then known_heads, known_count = {}, 0 end
        known_heads[head], known_count = parsed, known_count + 1
      end
    end
    if parsed.now ~= now then parsed.now, parsed.start = now, parsed.flag .. int(now) .. parsed.rest end
    return parsed
  end
end

local function is_known(keys, id)
  return call('HEXISTS', keys[TASKS], id) == 1 or call('HEXISTS', keys[RESULTS], id) == 1
end

-- Reads every key that add_tasks() writes behind its first two writes: the sequence, where a gap does no harm, and the records.
local function check_add(keys, plan, waiter)
  read_limit(keys, plan)
  call('ZCARD', keys[PENDING])
  plan.parked = call('ZCARD', keys[PARKED])
  if plan.expires then call('ZCARD', keys[EXPIRING]) end
  if waiter ~= '' then plan.waiters = call('HLEN', keys[WAITERS]) end
  if plan.due then plan.next_due = call('ZRANGE', keys[SCHEDULED], '0', '0', 'WITHSCORES')[2] end
  check_stats(keys, plan.now)
end

-- Looks at every task. Returns the plan, or nil and the reason. `unique`: the ids are fresh UUIDs; `waiter` as in enqueue.
local function plan_tasks(keys, list, from, unique, now, waiter)
  local n = (#list - from + 1) / WIDTH
  -- All fields at once: a table that grows is made anew.
  local plan = {
    now = now, n = n, from = from, heads = {}, duplicate = {}, due = nil, expires = nil, mixed = false, priority = false,
    paused = false, parked = 0, waiters = 0, next_due = nil, earliest = nil,
  }
  local heads, seen = plan.heads, {}
  for i = 1, n do
    local at = from + WIDTH * (i - 1)
    local id, head = list[at], list[at + 1]
    if not heads[head] then
      local parsed, why = read_head(head, now)
      if not parsed then return nil, 'task ' .. i .. ': ' .. why end
      heads[head] = parsed
      plan.due, plan.expires = plan.due or parsed.due, plan.expires or parsed.expires_at
      plan.mixed = plan.mixed or plan.priority and plan.priority ~= parsed.priority
      plan.priority = parsed.priority
    end
    if #list[at + 2] > MAX_PAYLOAD then return nil, 'task ' .. i .. ': payload exceeds ' .. MAX_PAYLOAD .. ' bytes' end
    if not unique or #id ~= 36 then
      if #id > 128 or find(id, '[^\33-\126]') then return nil, 'task ' .. i .. ': id must be 1 to 128 visible ASCII characters' end
      if heads[head].step and find(id, '^[^:]+:%d+:[mr]:%d') then
        return nil, 'task ' .. i .. ': with type map or reduce, this id is that of a step of a job, which only its job adds'
      end
      if id ~= '' then
        if seen[id] or is_known(keys, id) then plan.duplicate[i] = true end
        seen[id] = true
      end
    end
  end
  check_add(keys, plan, waiter)
  return plan
end

local function push(list, score, id)
  list = list or {}
  local n = #list
  list[n + 1], list[n + 2] = score, id
  return list
end

local function made_id(now, sequence)
  return fmt('%08x-%04x-7%03x-8%03x-%012x', floor(now / 65536) % 4294967296, now % 65536,
    floor(sequence / 16777216) % 4096, floor(sequence / 4096) % 4096, sequence % 281474976710656)
end

-- Which tasks of the plan come in, as places in it; and one letter for each: c created, d duplicate, x left out (only ingest
-- leaves some out, and reads no letters).
local function sort_plan(plan)
  local places, letters, count, duplicates = {}, {}, 0, 0
  for i = 1, plan.n do
    if plan.duplicate[i] then
      letters[i], duplicates = 'd', duplicates + 1
    elseif plan.refused and plan.refused[i] then
      letters[i] = 'x'
    else
      count = count + 1
      letters[i], places[count] = 'c', i
    end
  end
  return places, count, duplicates, count == plan.n and string.rep('c', count) or table.concat(letters)
end

local function add_waiters(keys, plan, records, waiter)
  local awaited = {}
  for i = 1, #records, 2 do awaited[i], awaited[i + 1] = records[i], waiter end
  set_wide(keys[WAITERS], plan.waiters, awaited)
end

-- Writes what was planned. Returns one letter a task and the made ids.
local function add_tasks(keys, list, plan, waiter)
  local places, count, duplicates, letters = sort_plan(plan)
  local records, pending, scheduled, expiring, made, kinds = {}, {}, nil, nil, {}, {}
  local now, heads, waiting = plan.now, plan.heads, 0
  local sequence = count > 0 and call('HINCRBY', keys[STATE], 'seq', small(count)) - count or 0
  local scores = not plan.mixed and not plan.due and count > 1 and series('', plan.priority * PRIORITY_SPAN + sequence + 1, count)
  for p = 1, count do
    local at, size = plan.from + WIDTH * (places[p] - 1), 2 * p
    local id, head = list[at], heads[list[at + 1]]
    sequence = sequence + 1
    if id == '' then id = made_id(now, sequence); made[#made + 1] = id end
    records[size - 1], records[size] = id, head.start .. list[at + 2]
    if head.due and head.due > now then
      scheduled = push(scheduled, due_score(head.due, head.priority), id)
      plan.earliest = math.min(plan.earliest or head.due, head.due)
    else
      pending[waiting + 1], pending[waiting + 2] = scores and scores[p] or int(head.priority * PRIORITY_SPAN + sequence), id
      waiting = waiting + 2
    end
    if head.expires_at then expiring = push(expiring, int(head.expires_at), id) end
    kinds[head.kind] = (kinds[head.kind] or 0) + 1
  end
  if count > 0 then
    call('HSET', keys[TASKS], unpack(records))
    if waiting > 0 then call('ZADD', keys[PENDING], unpack(pending)) end
    if scheduled then call('ZADD', keys[SCHEDULED], unpack(scheduled)) end
    if expiring then call('ZADD', keys[EXPIRING], unpack(expiring)) end
    if waiter ~= '' then add_waiters(keys, plan, records, waiter) end
  end
  bump(keys, now, { submitted = count, duplicate = duplicates }, { submitted = kinds })
  if waiting > 0 and plan.parked > 0 and not plan.paused then wake(keys, waiting / 2) end
  if plan.earliest and (not plan.next_due or plan.earliest < tonumber(plan.next_due)) then wake_maintainer(keys, 'due') end
  return letters, made
end
