--[[ job_settle: tasks of one job, of one consumer, have ended. Runs under OOM.

KEYS  the shared keys, the job's 12, running:<consumer>, session:<consumer>
ARGV  consumer | batch number | number of tasks | per task: id, token, verdict (done, retry, final, timeout, malformed,
      elsewhere = this consumer cannot run it, drop), delay in ms ('' = the backoff), random number 0..1, run time in ms, error, number of parts, per part: name, bytes
Reply one letter a task: k = kept, r = retried, f = failed for good, p = handed back (for another; over the
      budget: spill next time), d = dropped, s = stale

The output is kept, the next chunk fed, and the reduce that waited for just this one added in this one step:
whoever dies before it did nothing, and after it there is nothing left to do. A step that no job
knows is failed with the reason no-job.
]]
local MAX_OUTCOMES, MAX_PARTS, MAX_PART = 500, 1000, 16777216 + 64
local JOB_VERDICTS = { done = true, retry = true, final = true, timeout = true, malformed = true, elsewhere = true, drop = true }

local function read_outcomes(argv)
  local n, at, outcomes = tonumber(argv[3]), 4, {}
  if not (n and n >= 1 and n <= MAX_OUTCOMES) then return nil, 'job_settle takes 1 to ' .. MAX_OUTCOMES .. ' tasks' end
  for i = 1, n do
    local parts = tonumber(argv[at + 7])
    if not (parts and parts >= 0 and parts <= MAX_PARTS and at + 7 + 2 * parts <= #argv) then return nil, 'task ' .. i .. ': wrong number of parts' end
    local o = { id = argv[at], token = argv[at + 1], verdict = argv[at + 2], delay = argv[at + 3], random = tonumber(argv[at + 4]),
      run = tonumber(argv[at + 5]) or 0, error = argv[at + 6], from = at + 8, to = at + 7 + 2 * parts }
    if not JOB_VERDICTS[o.verdict] then return nil, 'task ' .. i .. ': unknown verdict' end
    if not (o.run >= 0 and o.run < 9007199254740992) then o.run = 0 end
    if not (o.random and o.random >= 0 and o.random <= 1) then return nil, 'task ' .. i .. ': the random number must be from 0 to 1' end
    if o.delay ~= '' and not (match(o.delay, '^%d+$') and tonumber(o.delay) <= NUMERIC.delay[2]) then return nil, 'task ' .. i .. ': delay must be whole ms' end
    for p = o.from, o.to, 2 do
      if not find(argv[p], '^%d+$') or #argv[p + 1] > MAX_PART then return nil, 'task ' .. i .. ': a part has a wrong name or exceeds 16 MiB' end
    end
    outcomes[i], at = o, o.to + 1
  end
  return outcomes
end

-- Which of the tasks the consumer holds under these tokens: their scores. It holds them no longer.
local function take_held(running, outcomes)
  local ids, scores, mine, seen = {}, {}, {}, {}
  for i, o in ipairs(outcomes) do ids[i] = o.id end
  local values = call('HMGET', running, unpack(ids))
  for i, o in ipairs(outcomes) do
    -- An id that stands twice in one batch is stale the second time.
    scores[i] = not seen[o.id] and held_score(values[i], o.token) or false
    if scores[i] then seen[o.id], mine[#mine + 1] = true, o.id end
  end
  if mine[1] then call('HDEL', running, unpack(mine)) end
  return scores
end

-- Which of their members are wanted: one look for all.
local function look_alive(keys, job, outcomes)
  local members, alive = {}, {}
  for i, o in ipairs(outcomes) do members[i] = sub(o.id, #job.base + 1) end
  local values = call('HMGET', keys[LIVE], unpack(members))
  for i, member in ipairs(members) do alive[member] = values[i] and true or nil end
  return alive
end

local function put_back(keys, job, o, score)
  call('ZADD', keys[PENDING], held_order(keys, o.id, score), o.id)
  count_task(job, 'released', nil, 1)
  if not is_paused(keys) then wake(keys, 1) end
end

-- The partitions that a map left something for, '+1,3', or those that it left nothing for, '-0': by its mark a reduce tells an
-- output that is gone from one that never was.
local function mark_of(job, argv, o)
  local there, names = {}, {}
  for p = o.from, o.to, 2 do
    if not there[argv[p]] then names[#names + 1] = argv[p] end
    there[argv[p]] = true
  end
  if 2 * #names <= job.partitions then return '+' .. table.concat(names, ',') end
  names = {}
  for partition = 0, job.partitions - 1 do
    if not there[int(partition)] then names[#names + 1] = int(partition) end
  end
  return '-' .. table.concat(names, ',')
end

-- The part's place: a map's output is what its reduce reads, the last reduce's is the result. A step of a fold leaves one even if
-- it is empty, a keyed map a mark; `kept` counts both, of those steps that `counted` counts: all but those that an earlier
-- release settled.
local function store_parts(keys, job, argv, o, member)
  local chunk, place = match(member, '^m:(%d+)'), match(member, '^r:(%d+%.%d+)')
  local together = job.done and job.done.data -- a map that leaves with others
  local _, top = levels_of(job)
  local inner = place and tonumber(match(place, '^%d+')) < top
  local data = together or {}
  if chunk and job.form ~= 'fold' then
    local mark = mark_of(job, argv, o)
    data[#data + 1], data[#data + 2] = 'm.' .. chunk, mark
    job.bytes = job.bytes + #mark
  elseif (chunk or inner) and o.to < o.from then
    data[#data + 1], data[#data + 2] = chunk and '0.' .. chunk or place, 'i'
    job.bytes = job.bytes + 1
  end
  job.counted = job.counted + 1
  for p = o.from, o.to, 2 do
    local name, part, is_result = argv[p], argv[p + 1], not chunk and not inner
    if chunk then
      name = job.form == 'fold' and '0.' .. chunk or name .. '.' .. chunk
    elseif inner then
      name = place
    else
      name = place and '0' or match(member, '^r:(%d+)')
      job.result_bytes = job.result_bytes + #part
      local elsewhere = tonumber(match(part, '^s(%d+) '))
      if elsewhere then
        job.result_spilled, job.result_spilled_bytes = job.result_spilled + 1, job.result_spilled_bytes + elsewhere
      end
    end
    if is_result then
      call('HSET', keys[OUT], name, part)
    else
      data[#data + 1], data[#data + 2] = name, part
    end
    job.bytes = job.bytes + #part
    if byte(part, 1) == 115 then job.spilled = job.spilled + 1 end -- 's'
  end
  if not together and data[1] then job.kept = job.kept + call('HSET', keys[DATA], unpack(data)) end
end

local function settle_done(keys, job, argv, o, member, score, now)
  local size, all = 0, 0 -- of what is inline; and with the references to spilled parts
  for p = o.from, o.to, 2 do
    if byte(argv[p + 1], 1) ~= 115 then size = size + #argv[p + 1] end
    all = all + #argv[p + 1]
  end
  if size > 0 and job.bytes + size > job.budget then
    if job.spill ~= '' then
      job.full = 1
      put_back(keys, job, o, score)
      return 'p'
    end
    end_job(keys, job, 'failed', fmt('budget: intermediate data would exceed %d bytes, and the job has no spill place', job.budget), now)
    return 'f'
  end
  -- What is spilled leaves a reference, and each map a mark: they have room beside the budget, or a job of many chunks and
  -- partitions would fill Redis with them.
  local beside = math.max(job.budget, MAX_PART)
  if job.bytes + all > job.budget + beside then
    end_job(keys, job, 'failed', fmt('budget: the references to spilled data would exceed %d bytes: fewer partitions or larger chunks leave fewer', beside), now)
    return 'f'
  end
  count_task(job, 'completed', kind_of_member(job, member), 1)
  if is_map(member) == (job.state == 'mapping') then job.run_times[#job.run_times + 1] = int(o.run) end
  if is_map(member) and job.maps_backup + job.reduces_backup == 0 then
    local chunk = sub(member, 3)
    leave_together(keys, job, member, chunk, argv[1], now)
    store_parts(keys, job, argv, o, member)
    map_done(keys, job, chunk, now)
    return 'k'
  end
  flush_done(keys, job)
  end_member(keys, job, member)
  if job.maps_backup + job.reduces_backup > 0 then
    drop_member(keys, job, twin_of(member), now)
    job.alive[twin_of(member)] = nil
  end
  store_parts(keys, job, argv, o, member)
  end_task(keys, job, member, 'completed', FRESH, argv[1], now, '')
  local chunk = match(member, '^m:(%d+)')
  if not chunk then
    reduce_done(keys, job, member, now)
    return 'k'
  end
  call('HDEL', keys[CHUNKS], chunk)
  map_done(keys, job, chunk, now)
  return 'k'
end

local function settle_failure(keys, job, argv, o, member, now)
  local record, m = call('HGET', keys[TASKS], o.id) or '', parse_meta(call('HGET', keys[META], o.id))
  local options, kind = options_of(record), kind_of_member(job, member)
  m.failures, m.started, m.consumer = m.failures + 1, started_at(now, o.run), argv[1]
  local again = (o.verdict == 'retry' or o.verdict == 'timeout') and m.failures < (options.max_attempts or DEFAULT.max_attempts)
  if again and call('HEXISTS', keys[LIVE], twin_of(member)) == 0 then
    local due = retry_later(keys, o.id, options, m, now, tonumber(o.delay) or backoff(options, m.failures, o.random), o.error)
    job.earliest = math.min(job.earliest or due, due)
    local counter = is_map(member) and 'maps_retried' or 'reduces_retried'
    job[counter] = job[counter] + 1
    job.has_meta = true
    note_error(keys, member, o.error)
    count_task(job, 'retried', kind, 1)
    return 'r'
  end
  end_task(keys, job, member, 'failed', m, argv[1], now, sub(o.error, 1, MAX_ERROR))
  count_task(job, 'failed', kind, 1)
  fail_member(keys, job, member, o.error, now)
  return 'f'
end

-- Another consumer may be able to. After as many tries as any unknown kind gets, it has failed, for the reason given.
local function settle_elsewhere(keys, job, argv, o, member, score, now)
  local m = parse_meta(call('HGET', keys[META], o.id))
  m.unhandled, m.releases = m.unhandled + 1, m.releases + 1
  note_error(keys, member, o.error)
  if m.unhandled >= UNHANDLED_LIMIT then
    end_task(keys, job, member, 'failed', m, argv[1], now, sub(o.error, 1, MAX_ERROR))
    count_task(job, 'failed', kind_of_member(job, member), 1)
    fail_member(keys, job, member, o.error .. ' (no consumer could: ' .. m.unhandled .. ' tries)', now)
    return 'f'
  end
  job.has_meta = true
  call('HSET', keys[META], o.id, format_meta(m))
  local due = now + (tonumber(o.delay) or 1000)
  call('ZADD', keys[SCHEDULED], due_score(due, floor(tonumber(held_order(keys, o.id, score)) / PRIORITY_SPAN)), o.id)
  job.earliest = math.min(job.earliest or due, due)
  count_task(job, 'released', nil, 1)
  return 'p'
end

local function settle_one(keys, job, argv, o, score, now)
  if not score then return o.verdict == 'drop' and 'd' or 's' end
  local member = job and sub(o.id, 1, #job.base) == job.base and sub(o.id, #job.base + 1)
  if not member or JOB_OVER[job.state] or not job.alive[member] then
    -- The job is over, or the other copy was faster. What is left of the task goes with the live ones.
    return o.verdict == 'drop' and 'd' or 's'
  end
  if o.verdict == 'drop' then
    put_back(keys, job, o, score)
    return 'p'
  end
  if job.started == 0 then job.started = now - o.run end
  if o.verdict == 'elsewhere' then return settle_elsewhere(keys, job, argv, o, member, score, now) end
  if o.verdict == 'done' then return settle_done(keys, job, argv, o, member, score, now) end
  return settle_failure(keys, job, argv, o, member, now)
end

-- What no job knows, by whoever put it there under such an id: nobody but this edge would ever end it. A step that a job
-- has done with, or that went with its job, has no record any more, or is still among the live ones and goes with those.
local function bury_orphans(keys, job, outcomes, scores, letters, consumer, now)
  local buried, kinds = 0, { failed = {} }
  for i, o in ipairs(outcomes) do
    local known = job and sub(o.id, 1, #job.base) == job.base and job.alive[sub(o.id, #job.base + 1)]
    local unsettled = scores[i] and (letters[i] == 's' or letters[i] == 'd')
    local record = unsettled and not known and call('HGET', keys[TASKS], o.id)
    if record then
      local kind = kind_of(record)
      bury(keys, o.id, kind, created_of(record), parse_meta(call('HGET', keys[META], o.id)), now, consumer, 'no-job', 'it has the id of a step, and no job knows it')
      buried, letters[i] = buried + 1, 'f'
      tally(kinds.failed, kind)
    end
  end
  return buried, kinds
end

local function job_settle(keys, argv)
  local session, consumer, batch = keys[JOB_OWN + 2], argv[1], argv[2]
  if not find(batch or '', '^%d+$') then return refuse('batch must be a number') end
  local outcomes, why = read_outcomes(argv)
  if not outcomes then return refuse(why) end
  local before, gone = answered_settle(keys, session, 'job', consumer, batch)
  if before then return before end
  if gone then return all_stale(keys, #outcomes) end
  check_job(keys)
  check_finish(keys)
  call('HLEN', keys[JOB_OWN + 1])
  local next_due, now = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2], clock()
  local job, letters, stale, buried, kinds = load_job(keys, now), {}, 0, 0, nil

  if job then job.run_times = {} end
  local scores = take_held(keys[JOB_OWN + 1], outcomes)
  if job then job.alive = look_alive(keys, job, outcomes) end
  for i, o in ipairs(outcomes) do
    letters[i] = settle_one(keys, job, argv, o, scores[i], now)
  end
  buried, kinds = bury_orphans(keys, job, outcomes, scores, letters, argv[1], now)
  for _, letter in ipairs(letters) do
    if letter == 's' then stale = stale + 1 end
  end
  letters = table.concat(letters)
  call('HSET', session, 'job', batch .. ' ' .. letters)
  if buried > 0 then bump(keys, now, { failed = buried }, kinds) end
  if not job then
    bump(keys, now, { stale = stale })
    return letters
  end
  count_task(job, 'stale', nil, stale)
  if not JOB_OVER[job.state] then
    if job.run_times[1] then
      call('LPUSH', keys[RUNS], unpack(job.run_times))
      call('LTRIM', keys[RUNS], 0, 100)
    end
    feed(keys, job)
  end
  add_ready(keys, job)
  save_job(keys, job, now)
  if job.earliest and (not next_due or job.earliest < tonumber(next_due)) then wake_maintainer(keys, 'due') end
  return letters
end

register('job_settle', job_settle, 'allow-oom', { "the job's 12", 'running:<consumer>', 'session:<consumer>' })
