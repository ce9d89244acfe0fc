--[[ fail: running -> retrying (scheduled), or failed (the dead-letter set). Runs under OOM: the
record stays where it is, only its place changes.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | batch number | per task 7: id, token, verdict, delay in ms ('' = the task's backoff), a
      random number from 0 to 1 for the jitter, run time in ms ('' = unknown), error text
      verdicts: retry, final (no retry helps), malformed (its payload is not JSON), timeout,
      refused (sealed or signed in a way that the consumer does not accept)
Reply one letter a task: r = will be retried, f = failed for good, s = stale

delay = min(base * factor^failures, cap) * (1 + jitter * random): 2, 4, 8 s ... by default.
]]
local MAX_FAILS = 50 -- each reads its record, payload included: bounded
local REASONS = { retry = 'attempts', final = 'final', malformed = 'malformed', timeout = 'timeout', refused = 'refused' }

local function check_fail(argv, n)
  if n > MAX_FAILS then return 'fail takes at most ' .. MAX_FAILS .. ' tasks' end
  for i = 1, n do
    local delay, random = argv[7 * i - 1], tonumber(argv[7 * i])
    if not REASONS[argv[7 * i - 2]] then return 'task ' .. i .. ': unknown verdict' end
    -- This way round it refuses what is no number at all, 'nan', too; so everywhere.
    if not (random and random >= 0 and random <= 1) then return 'task ' .. i .. ': the random number must be from 0 to 1' end
    if delay ~= '' and not (match(delay, '^%d+$') and tonumber(delay) <= NUMERIC.delay[2]) then
      return 'task ' .. i .. ': delay must be whole ms'
    end
  end
end

local function fail(keys, argv)
  local running, session, consumer, batch = keys[OWN + 1], keys[OWN + 2], argv[1], argv[2]
  local n, wrong = check_batch(argv, 7, 'fail')
  if not n then return wrong end
  wrong = check_fail(argv, n)
  if wrong then return refuse(wrong) end
  local before, gone = answered_settle(keys, session, 'fail', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, n) end
  check_finish(keys)
  local next_due, now = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2], clock()
  call('HLEN', running)

  local letters, retried, failed, kinds, dead, stale, earliest = {}, 0, 0, { failed = {}, retried = {} }, {}, 0, nil
  for i = 1, n do
    local at = 7 * i - 4
    local id, verdict, record = argv[at], argv[at + 2], call('HGET', keys[TASKS], argv[at])
    if not record or not held_score(call('HGET', running, id), argv[at + 1]) then
      letters[i], stale = 's', stale + 1
    else
      call('HDEL', running, id)
      local options, kind, m = options_of(record), kind_of(record), parse_meta(call('HGET', keys[META], id))
      m.failures, m.started, m.consumer = m.failures + 1, started_at(now, argv[at + 5]), consumer
      if (verdict == 'retry' or verdict == 'timeout') and m.failures < (options.max_attempts or DEFAULT.max_attempts) then
        local delay = tonumber(argv[at + 3]) or backoff(options, m.failures, tonumber(argv[at + 4]))
        local due = retry_later(keys, id, options, m, now, delay, argv[at + 6])
        earliest = math.min(earliest or due, due)
        letters[i], retried = 'r', retried + 1
        tally(kinds.retried, kind)
      else
        bury(keys, id, kind, created_of(record), m, now, consumer, REASONS[verdict], argv[at + 6])
        letters[i], failed = 'f', failed + 1
        tally(kinds.failed, kind)
        dead[#dead + 1] = id
      end
    end
  end
  bump(keys, now, { retried = retried, failed = failed, stale = stale }, kinds)
  follow(keys, now, dead, 'failed')
  if earliest and (not next_due or earliest < tonumber(next_due)) then wake_maintainer(keys, 'due') end
  letters = table.concat(letters)
  call('HSET', session, 'fail', batch .. ' ' .. letters)
  return letters
end

register('fail', fail, 'allow-oom', { 'running:<consumer>', 'session:<consumer>' })
