--[[ Map-reduce jobs: the record, and how a job ends. docs/jobs.md is the specification.

Every job function takes 12 more keys behind the shared ones, in this order. A job's tasks are ordinary
tasks `<job>:<epoch>:<member>` of type map or reduce; LIVE names those that exist. Whatever a step changes of the
record it collects in a table, and save_job() writes it at the end of the same call.

Ids carry the job's epoch, which is new with each start and each retry: what a consumer still holds of an earlier one
is never taken for a task of this one, whatever its tokens say.
]]
local JOBS, JOBS_DUE, JOB, CHUNKS, LIVE, DATA = OWN + 1, OWN + 2, OWN + 3, OWN + 4, OWN + 5, OWN + 6
local TREE, LOST, ERRORS, RUNS, OUT, AGAIN = OWN + 7, OWN + 8, OWN + 9, OWN + 10, OWN + 11, OWN + 12
local JOB_OWN = OWN + 12

local JOB_STEP = 250         -- members touched in one call
local TEND_EVERY = 1000      -- ms between looks at an active job
local MAX_JOB_ERRORS = 100
local MAX_CHUNKS = 10000000
local JOB_TEXTS = { 'state', 'form', 'map', 'reduce', 'map_head', 'reduce_head', 'allow', 'spill', 'nonce', 'error', 'result' }
local JOB_NUMBERS = { 'maps', 'maps_done', 'maps_failed', 'maps_retried', 'maps_backup', 'reduces', 'reduces_done',
  'reduces_failed', 'reduces_retried', 'reduces_backup', 'submitted', 'sealed', 'next', 'live_maps', 'largest', 'accepted',
  'bytes', 'result_parts', 'result_bytes', 'result_spilled', 'result_spilled_bytes', 'starts', 'resumed', 'spent', 'full', 'spilled', 'swept', 'created', 'touched', 'started', 'mapped', 'reducing', 'finished',
  'fan_in', 'partitions', 'budget', 'retention', 'backups', 'epoch', 'kept', 'counted' }
local JOB_OVER = { completed = true, failed = true, cancelled = true }

-- The job's id, from the name of its record.
local function job_id(keys) return match(keys[JOB], ':job:([%w_-]+)$') or '' end

-- The record as a table, nil if there is none. `was` remembers what is stored.
local function load_job(keys, now)
  local texts = call('HMGET', keys[JOB], unpack(JOB_TEXTS))
  if not texts[1] then return nil end
  local job, numbers = { id = job_id(keys), was = {}, ready = {}, tree = {}, totals = {}, kinds = {} }, call('HMGET', keys[JOB], unpack(JOB_NUMBERS))
  for i, name in ipairs(JOB_TEXTS) do job[name] = texts[i] or ''; job.was[name] = job[name] end
  for i, name in ipairs(JOB_NUMBERS) do
    local n = tonumber(numbers[i] or '0') or 0
    if n ~= n or n > 9007199254740992 or n < -9007199254740992 then return nil, 'damaged' end
    job[name], job.was[name] = n, n
  end
  if job.maps > MAX_CHUNKS or job.fan_in > 1000 or job.partitions > 1000 then return nil, 'damaged' end
  job.base = job.id .. ':' .. int(job.epoch) .. ':'
  -- Parsed before anything is written: a record that somebody damaged must not fail a step half-way.
  job.map_start, job.reduce_start = read_head(job.map_head, now), read_head(job.reduce_head, now)
  job.has_meta, job.has_waiters = call('HLEN', keys[META]) > 0, call('HLEN', keys[WAITERS]) > 0
  if not job.map_start or not job.reduce_start or (job.form ~= 'fold' and job.form ~= 'keyed') then return nil, 'damaged' end
  return job
end

-- Reads every key that a step may write: a wrong type fails here.
local function check_job(keys)
  check_finish(keys)
  call('ZCARD', keys[JOBS]); call('ZCARD', keys[JOBS_DUE]); call('HLEN', keys[JOB]); call('HLEN', keys[CHUNKS])
  call('HLEN', keys[LIVE]); call('HLEN', keys[DATA]); call('HLEN', keys[TREE]); call('ZCARD', keys[LOST])
  call('HLEN', keys[ERRORS]); call('LLEN', keys[RUNS]); call('HLEN', keys[OUT]); call('LLEN', keys[AGAIN])
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[SCHEDULED]); call('ZCARD', keys[PARKED])
end

local function count_task(job, counter, kind, n)
  job.totals[counter] = (job.totals[counter] or 0) + n
  if not kind then return end
  job.kinds[counter] = job.kinds[counter] or {}
  job.kinds[counter][kind] = (job.kinds[counter][kind] or 0) + n
end

-- Maps that are done wait here to leave together: five commands for all of them, not for each. Whatever looks
-- at LIVE, TASKS or DATA flushes first.
local MOST_STORED = 4000

local function flush_done(keys, job)
  local done = job.done
  if not done then return end
  job.done = nil
  call('HDEL', keys[LIVE], unpack(done.live))
  call('HDEL', keys[TASKS], unpack(done.tasks))
  if job.has_meta then call('HDEL', keys[META], unpack(done.tasks)) end
  call('HDEL', keys[CHUNKS], unpack(done.chunks))
  if done.data[1] then job.kept = job.kept + call('HSET', keys[DATA], unpack(done.data)) end
  local sessions = job.has_waiters and call('HMGET', keys[WAITERS], unpack(done.tasks)) or {}
  for i, id in ipairs(done.tasks) do
    if sessions[i] then
      tell(keys, id, sessions[i], terminal_text('completed', job.map, int(job.created), '0', done.now, FRESH, done.consumer, '-', ''))
    end
  end
end

local function leave_together(keys, job, member, chunk, consumer, now)
  if job.done and #job.done.data > MOST_STORED then flush_done(keys, job) end
  job.done = job.done or { live = {}, tasks = {}, chunks = {}, data = {}, consumer = consumer, now = now }
  local done, n = job.done, #job.done.live + 1
  done.live[n], done.tasks[n], done.chunks[n] = member, job.base .. member, chunk
  job.live_maps = job.live_maps - 1
end

local function save_job(keys, job, now)
  flush_done(keys, job)
  local changed = {}
  for name, before in pairs(job.was) do
    if job[name] ~= before then
      changed[#changed + 1] = name
      changed[#changed + 1] = type(job[name]) == 'number' and int(job[name]) or job[name]
    end
  end
  if changed[1] then call('HSET', keys[JOB], unpack(changed)) end
  for place, done in pairs(job.tree) do call('HSET', keys[TREE], place, int(done)) end
  bump(keys, now, job.totals, job.kinds)
end

-- Errors of attempts that are tried again take half of the places: those of what failed for good come later.
local function note_error(keys, member, err, is_final)
  if call('HLEN', keys[ERRORS]) < (is_final and MAX_JOB_ERRORS or MAX_JOB_ERRORS / 2) or call('HEXISTS', keys[ERRORS], member) == 1 then
    call('HSET', keys[ERRORS], member, sub(err, 1, MAX_ERROR))
  end
end

local function twin_of(member) return match(member, '^(.*):b$') or member .. ':b' end
local function is_map(member) return byte(member, 1) == 109 end -- 'm'
local function kind_of_member(job, member) return is_map(member) and job.map or job.reduce end

-- Takes a member out of LIVE; true if it was there.
local function end_member(keys, job, member)
  if call('HDEL', keys[LIVE], member) == 0 then return false end
  if is_map(member) and sub(member, -2) ~= ':b' then job.live_maps = job.live_maps - 1 end
  return true
end

-- Its task reaches a terminal state: what stays of it is in the job.
-- finish() for tasks that keep no result and have no expiry: a job has many.
local function end_task(keys, job, member, state, m, consumer, now, why)
  local id = job.base .. member
  call('HDEL', keys[TASKS], id)
  if job.has_meta then call('HDEL', keys[META], id) end
  local sessions = job.has_waiters and call('HGET', keys[WAITERS], id)
  if not sessions then return end
  local text = terminal_text(state, kind_of_member(job, member), int(job.created), '0', now, m, consumer, state == 'completed' and '-' or state, why)
  tell(keys, id, sessions, text)
end

-- Removes a task that is not wanted any more, wherever it is. One that runs finds the fence closed.
local function drop_member(keys, job, member, now)
  if not end_member(keys, job, member) then return end
  local id = job.base .. member
  if call('HEXISTS', keys[TASKS], id) == 0 then return end
  local counted = call('ZREM', keys[FAILED], id) == 1
  call('ZREM', keys[PENDING], id)
  call('ZREM', keys[SCHEDULED], id)
  end_task(keys, job, member, 'cancelled', FRESH, '-', now, '')
  if not counted then count_task(job, 'cancelled', kind_of_member(job, member), 1) end
end

-- Removes up to JOB_STEP live tasks of a job that has ended; a retry will run them again. How many are left.
local function drop_live(keys, job, now)
  local members = call('HRANDFIELD', keys[LIVE], JOB_STEP)
  for _, member in ipairs(members) do
    drop_member(keys, job, member, now)
    local first = match(member, '^(.*):b$') or member
    if job.state ~= 'completed' and call('HEXISTS', keys[LIVE], twin_of(member)) == 0 then call('RPUSH', keys[AGAIN], first) end
  end
  return call('HLEN', keys[LIVE])
end

local function forget_data(keys, job)
  call('UNLINK', keys[DATA], keys[TREE], keys[RUNS], keys[AGAIN])
  -- Else what is left is the lost chunks: people want to see what they were.
  if job.accepted == 0 then call('UNLINK', keys[CHUNKS]) end
  job.tree, job.kept = {}, 0
end

local function end_job(keys, job, state, why, now)
  flush_done(keys, job)
  job.state, job.error, job.finished = state, sub(why, 1, MAX_ERROR), now
  -- The states of all jobs cost too much to count for each look: who watches sees by this that one failed.
  if state == 'failed' then count_task(job, 'jobs_failed', nil, 1) end
  -- Reduces that this very call made ready are not live yet: a retry has to find them.
  if job.ready[1] and state ~= 'completed' then call('RPUSH', keys[AGAIN], unpack(job.ready)) end
  job.ready = {}
  local left = drop_live(keys, job, now)
  if state == 'completed' then
    forget_data(keys, job)
    job.bytes = job.result_bytes
    job.result, job.result_parts = keys[OUT], call('HLEN', keys[OUT])
  end
  -- More to remove, or spilled files: the maintainer goes on at once.
  local due = (left > 0 or job.spill ~= '') and now or now + job.retention
  call('ZADD', keys[JOBS_DUE], int(due), job.id)
  local sessions = call('HGET', keys[WAITERS], 'job ' .. job.id)
  if sessions then tell(keys, 'job ' .. job.id, sessions, state) end
end

-- A new start: tasks of the last one are strangers from now on.
local function begin_epoch(keys, job)
  job.epoch = tonumber(call('HGET', keys[STATE], 'seq') or '0') + 1
  job.starts = job.starts + 1
  call('HSET', keys[STATE], 'seq', int(job.epoch))
  job.base = job.id .. ':' .. int(job.epoch) .. ':'
end

-- Every key of it.
local function forget_job(keys)
  local id = job_id(keys)
  call('ZREM', keys[JOBS], id)
  call('ZREM', keys[JOBS_DUE], id)
  for key = JOB, AGAIN do call('UNLINK', keys[key]) end
end
