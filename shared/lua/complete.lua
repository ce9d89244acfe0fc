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

local function read_ids(argv, n)
  local ids, sound = {}, {}
  for i = 1, n do
    local at = FIRST + EACH * (i - 1)
    ids[i] = argv[at]
    local times = argv[at + 3]
    if not sound[times] then
      if not find(times, '^%d+ %d+ [%d-]+$') then return nil, refuse('task ' .. i .. ': times must be "retention created run" in ms') end
      sound[times] = true
    end
    if #argv[at + 4] > MAX_RESULT then return nil, refuse('task ' .. i .. ': the result exceeds 1 MiB') end
  end
  return ids
end

-- Which of the batch are the consumer's: their places in it, letters for all, counts by kind.
local function sort_out(argv, ids, values, n)
  local letters, places, mine, kinds, seen, count = {}, {}, {}, {}, {}, 0
  for i = 1, n do
    local at, id, value = FIRST + EACH * (i - 1), ids[i], values[i]
    local start = argv[at + 1] .. ' '
    -- An id that stands twice in one batch is stale the second time.
    if value and not seen[id] and sub(value, 1, #start) == start then
      count = count + 1
      letters[i], places[count], mine[count], seen[id] = 'k', i, id, true
      local kind = argv[at + 2]
      kinds[kind] = (kinds[kind] or 0) + 1
    else
      letters[i] = 's'
    end
  end
  return table.concat(letters), places, mine, kinds
end

-- Keeps the results that are to be kept, and finds who is to be told: nothing is written yet.
local function results_of(keys, argv, places, ids, now, has_meta)
  local sessions = call('HLEN', keys[WAITERS]) > 0 and call('HMGET', keys[WAITERS], unpack(ids)) or {}
  local kept, expiry, told = {}, {}, {}
  for _, i in ipairs(places) do
    local at, id = FIRST + EACH * (i - 1), ids[i]
    if sessions[i] or byte(argv[at + 3], 1) ~= 48 then -- '0': nothing is kept
      local keeps, created, run = match(argv[at + 3], '^(%d+) (%d+) ([%d-]+)$')
      local retention = tonumber(keeps)
      -- Who keeps nothing says no times; who waits for it wants them all the same.
      if created == '0' then created = created_of(call('HGET', keys[TASKS], id) or '') end
      local m = has_meta and parse_meta(call('HGET', keys[META], id)) or FRESH
      local text = terminal_text('completed', argv[at + 2], created, started_at(now, run), now, m, argv[1], '-', argv[at + 4])
      if retention > 0 then
        kept[#kept + 1] = id; kept[#kept + 1] = text
        expiry[#expiry + 1] = int(now + retention); expiry[#expiry + 1] = id
      end
      if sessions[i] then told[#told + 1] = { id, sessions[i], text } end
    end
  end
  return kept, expiry, told
end

local function complete(keys, argv)
  local running, session, consumer, batch = keys[OWN + 1], keys[OWN + 2], argv[1], argv[2]
  local n, wrong = check_batch(argv, EACH, 'complete')
  if not n then return wrong end
  local before, gone = answered_settle(keys, session, 'complete', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, n) end
  local ids, refused = read_ids(argv, n)
  if not ids then return refused end
  local values = call('HMGET', running, unpack(ids))
  local has_meta, now = check_finish(keys) > 0, clock()
  local may_expire = call('ZCARD', keys[EXPIRING]) > 0
  local letters, places, mine, kinds = sort_out(argv, ids, values, n)
  local kept, expiry, told = results_of(keys, argv, places, ids, now, has_meta)

  if mine[1] then
    call('HDEL', running, unpack(mine))
    call('HDEL', keys[TASKS], unpack(mine))
    if has_meta then call('HDEL', keys[META], unpack(mine)) end
    if may_expire then call('ZREM', keys[EXPIRING], unpack(mine)) end
    if kept[1] then call('HSET', keys[RESULTS], unpack(kept)); call('ZADD', keys[DONE], unpack(expiry)) end
    for i = 1, #told do tell(keys, told[i][1], told[i][2], told[i][3]) end
    follow(keys, now, mine, 'completed')
  end
  bump(keys, now, { completed = #mine, stale = n - #mine }, { completed = kinds })
  call('HSET', session, 'complete', batch .. ' ' .. letters)
  return letters
end

register('complete', complete, 'allow-oom')
