--[[ release: running -> pending (or scheduled, with a delay): handed back, no attempt burnt.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | batch number | per task 4: id, token, reason (drain, busy, unhandled), delay in ms (0 = now)
Reply one letter a task: p = pending again, in its old order, or scheduled; f = failed as 'no handler'
      after 10 consumers knew none; s = stale
]]
local function release(keys, argv)
  local running, session, consumer, batch = keys[OWN + 1], keys[OWN + 2], argv[1], argv[2]
  local n, wrong = check_batch(argv, 4, 'release')
  if not n then return wrong end
  for i = 1, n do
    local reason, delay = argv[4 * i + 1], argv[4 * i + 2]
    if not (match(delay, '^%d+$') and tonumber(delay) <= NUMERIC.delay[2]) then return refuse('task ' .. i .. ': delay must be whole ms, of ten years at most') end
    if reason ~= 'drain' and reason ~= 'busy' and reason ~= 'unhandled' then return refuse('task ' .. i .. ': reason must be drain, busy or unhandled') end
  end
  local before, gone = answered_settle(keys, session, 'release', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, n) end
  check_finish(keys)
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED]); call('HLEN', running)
  local next_due, paused, now = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2], is_paused(keys), clock()

  local letters, ready, released, failed, stale, kinds, earliest = {}, 0, 0, 0, 0, {}, nil
  local back_kinds, bytes = {}, 0
  for i = 1, n do
    local at = 4 * i - 1
    local id, reason, delay = argv[at], argv[at + 2], tonumber(argv[at + 3])
    local score = held_score(call('HGET', running, id), argv[at + 1])
    local m = parse_meta(call('HGET', keys[META], id))
    -- The answer is for all of a batch: behind many bytes of records, kinds are not read any more but counted as one.
    local record = score and (bytes > KINDS_BYTES and call('HEXISTS', keys[TASKS], id) == 1 or call('HGET', keys[TASKS], id))
    if score and not record then
      call('HDEL', running, id) -- its job has ended: nothing is left to hand back
      score = nil
    end
    if not score then
      letters[i], stale = 's', stale + 1
    else
      call('HDEL', running, id)
      letters[i], released = 'p', released + 1
      m.releases = m.releases + 1
      if reason == 'unhandled' then m.unhandled = m.unhandled + 1 end
      if m.unhandled >= UNHANDLED_LIMIT then
        if record == true then record = call('HGET', keys[TASKS], id) end
        local kind = kind_of(record)
        bury(keys, id, kind, created_of(record), m, now, consumer, 'no-handler', 'no handler: handed back ' .. m.unhandled .. ' times by consumers that know no handler for kind ' .. kind)
        letters[i], failed, released = 'f', failed + 1, released - 1
        follow(keys, now, { id }, 'failed')
        tally(kinds, kind)
      else
        tally(back_kinds, record == true and '*' or kind_of(record))
        if record ~= true then bytes = bytes + #record end
        call('HSET', keys[META], id, format_meta(m))
        score = held_order(keys, id, score)
        if delay > 0 then
          call('ZADD', keys[SCHEDULED], due_score(now + delay, floor(tonumber(score) / PRIORITY_SPAN)), id)
          earliest = math.min(earliest or math.huge, now + delay)
        else
          call('ZADD', keys[PENDING], score, id)
          ready = ready + 1
        end
      end
    end
  end
  bump(keys, now, { released = released, failed = failed, stale = stale }, { failed = kinds, released = back_kinds })
  letters = table.concat(letters)
  call('HSET', session, 'release', batch .. ' ' .. letters)
  if earliest and (not next_due or earliest < floor(tonumber(next_due))) then wake_maintainer(keys, 'due') end
  if ready > 0 and not paused then wake(keys, ready) end
  return letters
end

register('release', release, 'allow-oom', { 'running:<consumer>', 'session:<consumer>' })
