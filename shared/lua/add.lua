--[[ Adding tasks: the core that enqueue and ingest share.

plan_tasks() checks everything and touches nothing; add_tasks() writes and cannot fail. Tasks stand in
a flat list, three values each from `from` on: id ('' = make one), head, payload. A head is
`kind[ option=value ...][ LF extra JSON]`; tasks of one call mostly share it, so each is parsed once,
and a table per task would cost more than the task.
]]
local WIDTH = 3

-- Options with relative times made absolute by Redis' clock, and their text.
local function absolute(options, text, now)
  if options.delay then
    options.not_before = now + options.delay
    text = string.gsub(text, 'delay=[%d.]+', 'not_before=' .. int(options.not_before))
  end
  if options.expires_in then
    options.expires_at = now + options.expires_in
    text = string.gsub(text, 'expires_in=[%d.]+', 'expires_at=' .. int(options.expires_at))
  end
  return text
end

-- A head as a table: kind, options, and `start`, what its records begin with. Or nil and the reason.
local function parse_head(head, now)
  local line, extra = match(head, '^([^\n]*)\n?(.*)$')
  local kind, text = match(line, '^([^ ]*) ?(.*)$')
  if #kind < 1 or #kind > 128 or find(kind, '[^%w._:-]') then return nil, 'kind must match [A-Za-z0-9._:-]{1,128}' end
  if #extra > MAX_EXTRA then return nil, 'headers and unknown fields exceed ' .. MAX_EXTRA .. ' bytes' end
  if find(extra, '\n', 1, true) then return nil, 'extra must be one line of JSON' end
  if text == '' then
    return { kind = kind, priority = DEFAULT.priority, start = 'd' .. int(now) .. ' ' .. kind .. '\n' .. extra .. '\n' }
  end
  local options, why = parse_options(text)
  if not options then return nil, why end
  text = absolute(options, text, now)
  local flag = options.expires_at and 'e' or 'o'
  return {
    kind = kind, priority = options.priority or DEFAULT.priority,
    due = options.not_before, expires_at = options.expires_at,
    start = flag .. int(now) .. ' ' .. kind .. ' ' .. text .. '\n' .. extra .. '\n',
  }
end

local function is_known(keys, id)
  return call('HEXISTS', keys[TASKS], id) == 1 or call('HEXISTS', keys[RESULTS], id) == 1
end

-- Reads every key that add_tasks() writes.
local function check_add(keys, plan)
  read_limit(keys, plan)
  plan.sequence = tonumber(call('HGET', keys[STATE], 'seq') or '0')
  call('HLEN', keys[TASKS]); call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED])
  call('ZCARD', keys[EXPIRING]); call('HLEN', keys[WAITERS])
  plan.next_due = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2]
  check_stats(keys)
end

-- Looks at every task. Returns the plan, or nil and the reason. `unique`: the ids are fresh UUIDs.
local function plan_tasks(keys, list, from, unique, now)
  local n = (#list - from + 1) / WIDTH
  local plan = { now = now, n = n, from = from, heads = {}, duplicate = {} }
  local heads, seen = plan.heads, {}
  for i = 1, n do
    local at = from + WIDTH * (i - 1)
    local id, head = list[at], list[at + 1]
    if not heads[head] then
      local parsed, why = parse_head(head, now)
      if not parsed then return nil, 'task ' .. i .. ': ' .. why end
      heads[head] = parsed
    end
    if #list[at + 2] > MAX_PAYLOAD then return nil, 'task ' .. i .. ': payload exceeds ' .. MAX_PAYLOAD .. ' bytes' end
    if not unique or #id ~= 36 then
      if #id > 128 or find(id, '[^\33-\126]') then return nil, 'task ' .. i .. ': id must be 1 to 128 visible ASCII characters' end
      if id ~= '' then
        if seen[id] or is_known(keys, id) then plan.duplicate[i] = true end
        seen[id] = true
      end
    end
  end
  check_add(keys, plan)
  return plan
end

local function made_id(now, sequence)
  return fmt('%08x-%04x-7%03x-8%03x-%012x', floor(now / 65536) % 4294967296, now % 65536,
    floor(sequence / 16777216) % 4096, floor(sequence / 4096) % 4096, sequence % 281474976710656)
end

local function push(list, score, id)
  local n = #list
  list[n + 1], list[n + 2] = score, id
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
  local letters, made, kinds, records, pending, size, waiting = {}, {}, {}, lists.records, lists.pending, 0, 0
  local now, sequence, heads = plan.now, plan.sequence, plan.heads
  local refused, duplicates, left_out = plan.refused, 0, 0
  for i = 1, plan.n do
    if plan.duplicate[i] then
      letters[i], duplicates = 'd', duplicates + 1
    elseif refused and refused[i] then
      letters[i], left_out = 'x', left_out + 1 -- only ingest leaves some out, and reads no letters
    else
      local at = plan.from + WIDTH * (i - 1)
      local id, head = list[at], heads[list[at + 1]]
      letters[i], sequence = 'c', sequence + 1
      if id == '' then id = made_id(now, sequence); made[#made + 1] = id end
      records[size + 1], records[size + 2], size = id, head.start .. list[at + 2], size + 2
      if head.due and head.due > now then
        push(lists.scheduled, due_score(head.due, head.priority), id)
        plan.earliest = math.min(plan.earliest or head.due, head.due)
      else
        pending[waiting + 1], pending[waiting + 2] = int(head.priority * PRIORITY_SPAN + sequence), id
        waiting = waiting + 2
      end
      if head.expires_at then push(lists.expiring, int(head.expires_at), id) end
      if waiter ~= '' then push(lists.awaited, id, waiter) end
      kinds[head.kind] = (kinds[head.kind] or 0) + 1
    end
  end
  if size > 0 then write(keys, lists, sequence) end
  bump(keys, now, { submitted = plan.n - duplicates - left_out, duplicate = duplicates }, { submitted = kinds })
  if waiting > 0 and not plan.paused then wake(keys, waiting / 2) end
  if plan.earliest and (not plan.next_due or plan.earliest < tonumber(plan.next_due)) then wake_maintainer(keys) end
  return table.concat(letters), made
end
