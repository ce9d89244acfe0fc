--[[ complete: running -> completed, for a batch of one consumer. Runs under OOM.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | batch number | per task 7: id, token, kind, created ms, run time in ms ('' = unknown),
      retention in ms, result (JSON, at most 1 MiB)
Reply one letter a task: k = kept, s = stale (not this consumer's any more; nothing was changed)

The values behind the token come from the record that the claim handed out, so that no payload has
to be read again here.
]]
local MAX_RESULT = 1048576

local function remove_all(keys, running, ids)
  call('HDEL', running, unpack(ids))
  call('HDEL', keys[TASKS], unpack(ids))
end

local function complete(keys, argv)
  local running, session, consumer, batch = keys[OWN + 1], keys[OWN + 2], argv[1], argv[2]
  local n, wrong = check_batch(argv, 7, 'complete')
  if not n then return wrong end
  local before, gone = answered_settle(keys, session, 'complete', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, n) end
  local ids = {}
  for i = 1, n do
    local at = 7 * i - 4
    ids[i] = argv[at]
    if not tonumber(argv[at + 5]) or #argv[at + 6] > MAX_RESULT then return refuse('task ' .. i .. ': retention must be a number, result at most 1 MiB') end
  end
  local values = call('HMGET', running, unpack(ids))
  local has_meta, waits, now = check_finish(keys) > 0, call('HLEN', keys[WAITERS]) > 0, clock()
  local may_expire = call('ZCARD', keys[EXPIRING]) > 0
  local sessions = waits and call('HMGET', keys[WAITERS], unpack(ids)) or {}

  local letters, mine, kept, expiry, kinds, told, seen = {}, {}, {}, {}, {}, {}, {}
  for i = 1, n do
    local at, id = 7 * i - 4, ids[i]
    if not seen[id] and held_score(values[i], argv[at + 1]) then
      letters[i], mine[#mine + 1], seen[id] = 'k', id, true
      local retention, kind = tonumber(argv[at + 5]), argv[at + 2]
      tally(kinds, kind)
      if retention > 0 or sessions[i] then
        local m = parse_meta(has_meta and call('HGET', keys[META], id))
        local text = terminal_text('completed', kind, argv[at + 3], started_at(now, argv[at + 4]), now, m, consumer, '-', argv[at + 6])
        if retention > 0 then
          kept[#kept + 1] = id; kept[#kept + 1] = text
          expiry[#expiry + 1] = int(now + retention); expiry[#expiry + 1] = id
        end
        if sessions[i] then told[#told + 1] = { id, sessions[i], text } end
      end
    else
      letters[i] = 's'
    end
  end
  if mine[1] then
    remove_all(keys, running, mine)
    if has_meta then call('HDEL', keys[META], unpack(mine)) end
    if may_expire then call('ZREM', keys[EXPIRING], unpack(mine)) end
    if kept[1] then call('HSET', keys[RESULTS], unpack(kept)); call('ZADD', keys[DONE], unpack(expiry)) end
    for i = 1, #told do
      tell(keys, told[i][1], told[i][2], told[i][3])
    end
    follow(keys, now, mine, 'completed')
  end
  bump(keys, now, { completed = #mine, stale = n - #mine }, { completed = kinds })
  letters = table.concat(letters)
  call('HSET', session, 'complete', batch .. ' ' .. letters)
  return letters
end

register('complete', complete, 'allow-oom')
