--[[ complete: running -> completed, for a batch of one consumer. Runs under OOM.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | batch number | per task 5: id, token, kind, '<retention ms> <created ms> <run time in ms, or ->',
      result (JSON, at most 1 MiB)
Reply one letter a task: k = kept, s = stale (not this consumer's any more; nothing was changed)

The values behind the token come from the record that the claim handed out, so that no payload has
to be read again here.
]]
local MAX_RESULT = 1048576

local EACH, FIRST = 5, 3

-- The ids, and what each distinct text of times says: most tasks of a batch share theirs.
local function read_batch(argv, n)
  local ids, times, kind = {}, {}, nil
  for i = 1, n do
    local at = FIRST + EACH * (i - 1)
    ids[i] = argv[at]
    -- It becomes a field of the counts, and a word of the result's header.
    if argv[at + 2] ~= kind then
      kind = argv[at + 2]
      if not is_kind(kind) then return nil, refuse('task ' .. i .. ': ' .. KIND_RULE) end
    end
    local text = argv[at + 3]
    if not times[text] then
      local retention, created, run = match(text, '^(%d+) (%d+) ([%d-]+)$')
      local right = retention and tonumber(retention) <= NUMERIC.retention[2] and tonumber(created) <= NUMERIC.expires_at[2]
      if not right or not (run == '-' or match(run, '^%d+$') and tonumber(run) <= NUMERIC.expires_at[2]) then return nil, refuse('task ' .. i .. ': times must be "retention created run" in ms') end
      times[text] = {
        retention = tonumber(retention), created = created, run = run, -- and what is worked out once, below
        started = false, expiry = false, kind = false, head = false, head_of = false,
      }
    end
    if #argv[at + 4] > MAX_RESULT then return nil, refuse('task ' .. i .. ': the result exceeds 1 MiB') end
  end
  return ids, times
end

-- Which of the batch are the consumer's: their places in it, letters for all, counts by kind.
local function sort_out(argv, ids, values, n)
  local places, mine, kinds, seen, count, token, start, letters = {}, {}, {}, {}, 0, nil, nil, nil
  for i = 1, n do
    local at, id, value = FIRST + EACH * (i - 1), ids[i], values[i]
    if argv[at + 1] ~= token then
      token = argv[at + 1]
      start = token .. ' '
    end
    -- An id that stands twice in one batch is stale the second time.
    if value and not seen[id] and find(value, start, 1, true) == 1 then
      count = count + 1
      places[count], mine[count] = i, id
      if n > 1 then seen[id] = true end
      local kind = argv[at + 2]
      kinds[kind] = (kinds[kind] or 0) + 1
    end
  end
  if count == n then return string.rep('k', n), places, mine, kinds end
  letters = {}
  for i = 1, n do letters[i] = 's' end
  for i = 1, count do letters[places[i]] = 'k' end
  return table.concat(letters), places, mine, kinds
end

-- Keeps the results that are to be kept, and finds who is to be told: nothing is written yet.
local function results_of(keys, argv, places, ids, times, now, has_meta)
  local sessions = call('HLEN', keys[WAITERS]) > 0 and call('HMGET', keys[WAITERS], unpack(ids)) or {}
  local metas = has_meta and call('HMGET', keys[META], unpack(ids)) or {}
  local kept, expiry, told, size = {}, {}, {}, 0
  for p = 1, #places do
    local i = places[p]
    local at, id = FIRST + EACH * (i - 1), ids[i]
    local time = times[argv[at + 3]]
    if time.retention > 0 or sessions[i] then
      local created = time.created
      -- Who keeps nothing says no times; who waits for it wants them all the same.
      if created == '0' then created = created_of(call('HGET', keys[TASKS], id) or '') end
      time.started = time.started or started_at(now, time.run)
      local kind, result, text = argv[at + 2], argv[at + 4], nil
      if metas[i] then
        text = terminal_text('completed', kind, created, time.started, now, parse_meta(metas[i]), argv[1], '-', result)
      else
        if time.kind ~= kind or time.head_of ~= created then
          time.kind, time.head_of = kind, created
          time.head = terminal_text('completed', kind, created, time.started, now, FRESH, argv[1], '-', '')
        end
        text = time.head .. result
      end
      if time.retention > 0 then
        time.expiry = time.expiry or int(now + time.retention)
        kept[size + 1], kept[size + 2] = id, text
        expiry[size + 1], expiry[size + 2] = time.expiry, id
        size = size + 2
      end
      if sessions[i] then told[#told + 1] = { id, sessions[i], text } end
    end
  end
  if size > 0 then call('HLEN', keys[RESULTS]); call('ZCARD', keys[DONE]) end
  return kept, expiry, told
end

local function complete(keys, argv)
  local running, session, consumer, batch = keys[OWN + 1], keys[OWN + 2], argv[1], argv[2]
  local n, wrong = check_batch(argv, EACH, 'complete')
  if not n then return wrong end
  local before, gone = answered_settle(keys, session, 'complete', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, n) end
  local ids, times = read_batch(argv, n)
  if not ids then return times end
  -- Every key that is written is read before, but TASKS, which is written first.
  local values = call('HMGET', running, unpack(ids))
  local has_meta, may_expire, now = call('HLEN', keys[META]) > 0, call('ZCARD', keys[EXPIRING]) > 0, clock()
  local letters, places, mine, kinds = sort_out(argv, ids, values, n)
  local kept, expiry, told = results_of(keys, argv, places, ids, times, now, has_meta)
  check_stats(keys, now)
  local followed = is_followed(keys, now)

  if mine[1] then
    call('HDEL', keys[TASKS], unpack(mine))
    call('HDEL', running, unpack(mine))
    if has_meta then call('HDEL', keys[META], unpack(mine)) end
    if may_expire then call('ZREM', keys[EXPIRING], unpack(mine)) end
    if kept[1] then call('HSET', keys[RESULTS], unpack(kept)); call('ZADD', keys[DONE], unpack(expiry)) end
    if told[1] then tell_all(keys, told) end
    if followed then publish_ends(keys, mine, 'completed') end
  end
  bump(keys, now, { completed = #mine, stale = n - #mine }, { completed = kinds })
  call('HSET', session, 'complete', batch .. ' ' .. letters)
  return letters
end

register('complete', complete, 'allow-oom', { 'running:<consumer>', 'session:<consumer>' })
