--[[ What people do to a job: cancel, retry, delete, wait.

job_cancel: KEYS the shared keys, the job's 12, audit   ARGV who, for the audit
            Reply 'cancelled' | 'finished' | 'unknown'. Runs under OOM.
job_retry:  KEYS as job_cancel   ARGV who
            Reply 'retrying' | 'more' = call again | 'running' | 'completed' | 'lost' = never sealed | 'unknown'
            Runs what is missing of a failed or cancelled job; what is there is kept.
job_delete: KEYS as job_cancel   ARGV who | '1' if its spilled files are gone
            Reply 'deleted' | 'alive' | 'more' = call again | 'spilled' = remove its files first | 'unknown'. Runs under OOM.
job_wait:   KEYS the shared keys, the job's 12   ARGV waiter session
            Reply its state, or 'unknown'. If it is not over, its state comes on channel done:<session> under the id 'job <id>'.
]]
local DAMAGED = 'the record of this job is damaged: it can only be deleted'

-- The job, or nil and the answer that says why there is none to work on.
local function find_job(keys, now)
  local job, damaged = load_job(keys, now)
  if damaged then return nil, refuse(DAMAGED) end
  return job, 'unknown'
end

local function job_cancel(keys, argv)
  local now, audit, who = clock(), keys[JOB_OWN + 1], argv[1]
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  check_job(keys)
  local job, answer = find_job(keys, now)
  if not job then return answer end
  if JOB_OVER[job.state] then return 'finished' end
  end_job(keys, job, 'cancelled', 'cancelled', now)
  save_job(keys, job, now)
  wake_maintainer(keys, 'jobs') -- more of its tasks may have to go
  note(audit, who, 'cancel-job', 1, job.id)
  return 'cancelled'
end

-- Chunks that had failed run again, unless the result was to do without them already.
local function revive_lost(keys, job)
  if job.mapped > 0 then return 0 end
  local lost = call('ZRANGE', keys[LOST], 0, JOB_STEP - 1)
  for _, chunk in ipairs(lost) do
    call('RPUSH', keys[AGAIN], 'm:' .. chunk)
    call('ZREM', keys[LOST], chunk)
  end
  job.maps_failed = math.max(0, job.maps_failed - #lost)
  return call('ZCARD', keys[LOST])
end

local function job_retry(keys, argv)
  local now, audit, who = clock(), keys[JOB_OWN + 1], argv[1]
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  check_job(keys)
  local job, answer = find_job(keys, now)
  if not job then return answer end
  if job.state == 'completed' then return 'completed' end
  if not JOB_OVER[job.state] then return 'running' end
  if job.sealed == 0 then return 'lost' end
  if call('HLEN', keys[LIVE]) > 0 then -- what its end has not cleared away yet
    drop_live(keys, job, now)
    save_job(keys, job, now)
    return 'more'
  end
  if revive_lost(keys, job) > 0 then
    save_job(keys, job, now)
    return 'more'
  end
  -- The time between its end and this call is not one in which it ran.
  if job.started > 0 then job.spent = job.spent + math.max(0, job.finished - math.max(job.started, job.resumed)) end
  job.error, job.finished, job.full, job.reduces_failed, job.live_maps, job.resumed = '', 0, 0, 0, 0, now
  begin_epoch(keys, job)
  job.state = 'mapping'
  if job.mapped > 0 and job.accepted >= job.maps_failed then
    job.state = (job.form == 'keyed' and job.reducing == 0) and 'shuffling' or 'reducing'
  end
  call('UNLINK', keys[ERRORS])
  call('ZADD', keys[JOBS_DUE], int(now + TEND_EVERY), job.id)
  feed(keys, job)
  save_job(keys, job, now)
  wake_maintainer(keys, 'jobs')
  note(audit, who, 'retry-job', 1, job.id)
  return 'retrying'
end

-- Somebody wrote into its keys: what can be recognised of its tasks goes, and then all of it. 'more' while some are left.
local function delete_damaged(keys, audit, who)
  if call('EXISTS', keys[JOB]) == 0 and not call('ZSCORE', keys[JOBS], job_id(keys)) then return 'unknown' end
  local sound, members = pcall(call, 'HRANDFIELD', keys[LIVE], JOB_STEP)
  local readable, epoch = pcall(call, 'HGET', keys[JOB], 'epoch')
  if sound and readable and epoch then
    local dropped = 0
    for _, member in ipairs(members) do
      local id = job_id(keys) .. ':' .. epoch .. ':' .. member
      call('HDEL', keys[LIVE], member)
      call('HDEL', keys[META], id)
      call('ZREM', keys[PENDING], id)
      call('ZREM', keys[SCHEDULED], id)
      call('ZREM', keys[FAILED], id)
      dropped = dropped + call('HDEL', keys[TASKS], id)
    end
    bump(keys, (clock()), { cancelled = dropped })
    if call('HLEN', keys[LIVE]) > 0 then return 'more' end
  end
  forget_job(keys)
  note(audit, who, 'delete-job', 1, job_id(keys))
  return 'deleted'
end

local function job_delete(keys, argv)
  local now, audit, who = clock(), keys[JOB_OWN + 1], argv[1]
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  check_finish(keys)
  call('ZCARD', keys[JOBS]); call('ZCARD', keys[JOBS_DUE]); call('ZCARD', keys[PENDING]); call('ZCARD', keys[SCHEDULED])
  if not pcall(check_job, keys) then return delete_damaged(keys, audit, who) end
  local job = load_job(keys, now)
  if not job then return delete_damaged(keys, audit, who) end
  if not JOB_OVER[job.state] then return 'alive' end
  if call('HLEN', keys[LIVE]) > 0 and drop_live(keys, job, now) > 0 then
    save_job(keys, job, now)
    return 'more'
  end
  -- Also when no spilled part was ever taken: a consumer may have died between writing and saying so.
  if job.spill ~= '' and argv[2] ~= '1' then
    save_job(keys, job, now)
    return 'spilled'
  end
  bump(keys, now, job.totals, job.kinds)
  forget_job(keys)
  if job.sealed == 0 and job.nonce ~= '' then -- its submitter may be on its way: it must not begin anew
    call('RPUSH', keys[AGAIN], 'deleted ' .. job.nonce)
    call('PEXPIRE', keys[AGAIN], 86400000)
  end
  note(audit, who, 'delete-job', 1, job.id)
  return 'deleted'
end

local function job_wait(keys, argv)
  local session, name = argv[1], 'job ' .. job_id(keys)
  local wrong = wrong_waiter(session)
  if wrong then return wrong end
  local job, answer = find_job(keys, (clock()))
  if not job then return answer end
  if not JOB_OVER[job.state] then ask(keys, name, session) end
  return job.state
end

register('job_cancel', job_cancel, 'allow-oom', { "the job's 12", 'audit' })
register('job_retry', job_retry, nil, { "the job's 12", 'audit' })
register('job_delete', job_delete, 'allow-oom', { "the job's 12", 'audit' })
register('job_wait', job_wait, nil, { "the job's 12" })
