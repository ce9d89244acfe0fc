--[[ Adding tasks: the core that enqueue and ingest share.

plan() checks everything and touches nothing; add() writes and cannot fail. A task is a table
{ id, kind, options text, extra, payload }; an empty id gets one made from Redis' time and the
partition's sequence, in the form of a UUIDv7.
]]
-- `known` remembers the kinds of this call that were found sound.
local function check_task(task, known)
  local id, kind, extra = task[1], task[2], task[4]
  if #id > 128 or find(id, '[^\33-\126]') then return 'id must be 1 to 128 visible ASCII characters' end
  if not known[kind] then
    if #kind < 1 or #kind > 128 or find(kind, '[^%w._:-]') then return 'kind must match [A-Za-z0-9._:-]{1,128}' end
    known[kind] = true
  end
  if extra ~= '' then
    if #extra > MAX_EXTRA then return 'headers and unknown fields exceed ' .. MAX_EXTRA .. ' bytes' end
    if find(extra, '\n', 1, true) then return 'extra must be one line of JSON' end
  end
  if #task[5] > MAX_PAYLOAD then return 'payload exceeds ' .. MAX_PAYLOAD .. ' bytes' end
end

-- Relative times become absolute ones, by Redis' clock.
local function settle_times(task, options, now)
  local text = task[3]
  if options.delay then
    options.not_before = now + options.delay
    text = string.gsub(text, 'delay=[%d.]+', 'not_before=' .. int(options.not_before))
  end
  if options.expires_in then
    options.expires_at = now + options.expires_in
    text = string.gsub(text, 'expires_in=[%d.]+', 'expires_at=' .. int(options.expires_at))
  end
  task[3] = text
end

local function is_known(keys, id)
  return call('HEXISTS', keys[TASKS], id) == 1 or call('HEXISTS', keys[RESULTS], id) == 1
end

-- Looks at every task and every key that add() will write. Returns the plan, or nil and the reason.
local function plan_tasks(keys, tasks, unique, now)
  local plan, parsed, kinds = { now = now, seen = {} }, {}, {}
  for i = 1, #tasks do
    local task = tasks[i]
    local wrong = check_task(task, kinds)
    if wrong then return nil, 'task ' .. i .. ': ' .. wrong end
    if task[3] ~= '' then
      -- Tasks of one call mostly choose the same: each text is parsed once.
      local options, why = parsed[task[3]], nil
      if not options then
        options, why = parse_options(task[3])
        if not options then return nil, 'task ' .. i .. ': ' .. why end
        if not options.delay and not options.expires_in then parsed[task[3]] = options end
      end
      settle_times(task, options, now)
      task.options = options
    end
    local id = task[1]
    if not unique and id ~= '' then
      task.duplicate = plan.seen[id] or is_known(keys, id)
      plan.seen[id] = true
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

-- Writes what was planned. Returns one letter a task (c created, d duplicate) and the made ids.
local function add_tasks(keys, tasks, plan, waiter)
  local now, sequence, stamp = plan.now, plan.sequence, int(plan.now)
  local records, pending, scheduled, expiring, awaited = {}, {}, {}, {}, {}
  local letters, made, kinds, created = {}, {}, {}, 0
  for i = 1, #tasks do
    local task = tasks[i]
    if task.duplicate then
      letters[i] = 'd'
    else
      letters[i], sequence, created = 'c', sequence + 1, created + 1
      local id, options = task[1], task.options
      if id == '' then id = made_id(now, sequence); made[#made + 1] = id end
      records[#records + 1] = id
      if options then
        records[#records + 1] = (options.expires_at and 'e' or 'o') .. stamp .. ' ' .. task[2] .. ' ' .. task[3] .. '\n' .. task[4] .. '\n' .. task[5]
      else
        records[#records + 1] = 'd' .. stamp .. ' ' .. task[2] .. '\n' .. task[4] .. '\n' .. task[5]
      end
      local priority = options and options.priority or DEFAULT.priority
      local due = options and options.not_before
      if due and due > now then
        scheduled[#scheduled + 1] = due_score(due, priority); scheduled[#scheduled + 1] = id
        plan.earliest = math.min(plan.earliest or due, due)
      else
        pending[#pending + 1] = pending_score(priority, sequence); pending[#pending + 1] = id
      end
      if options and options.expires_at then
        expiring[#expiring + 1] = int(options.expires_at); expiring[#expiring + 1] = id
      end
      if waiter ~= '' then awaited[#awaited + 1] = id; awaited[#awaited + 1] = waiter end
      tally(kinds, task[2])
    end
  end
  if created > 0 then
    call('HSET', keys[STATE], 'seq', int(sequence))
    call('HSET', keys[TASKS], unpack(records))
    if pending[1] then call('ZADD', keys[PENDING], unpack(pending)) end
    if scheduled[1] then call('ZADD', keys[SCHEDULED], unpack(scheduled)) end
    if expiring[1] then call('ZADD', keys[EXPIRING], unpack(expiring)) end
    if awaited[1] then call('HSET', keys[WAITERS], unpack(awaited)) end
  end
  bump(keys, now, { submitted = created, duplicate = #tasks - created }, { submitted = kinds })
  if pending[1] and not plan.paused then wake(keys, #pending / 2) end
  if plan.earliest and (not plan.next_due or plan.earliest < tonumber(plan.next_due)) then wake_maintainer(keys) end
  return table.concat(letters), made
end
