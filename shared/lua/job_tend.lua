--[[ What the maintainer does for jobs, in bounded steps; and what a reducer says when it begins.

job_tend:     KEYS the shared keys, the job's 12   ARGV spilled files that are gone: '' none, 'data' the intermediate ones,
              'all' | live members to look at (at most 500)
              Reply state ('' = gone) | 1 if there is more to do now | ms until it is due again (-1: never) | which spilled files
              should go now: '' none, 'data', 'all'. Runs under OOM.
job_backup:   KEYS as job_tend   ARGV members that are slow   Reply how many got a second copy
job_reducing: KEYS as job_tend   Reply 1 if this was the first reduce behind the last map. Runs under OOM.
]]
local ABANDONED, SPILL_AGAIN = 3600000, 60000
local SPILL_GIVEN_UP = 86400000 -- beyond its retention: nobody could reach its spill place

-- A member whose task has gone, or lies dead-lettered, will never settle: it has failed.
local function audit(keys, job, member, now)
  local id = job.base .. member
  if JOB_OVER[job.state] or call('HEXISTS', keys[LIVE], member) == 0 then return end
  if call('HEXISTS', keys[TASKS], id) == 0 then
    return fail_member(keys, job, member, 'its task was removed: cancelled, purged or deleted by hand', now)
  end
  if not call('ZSCORE', keys[FAILED], id) then return end
  local m = parse_meta(call('HGET', keys[META], id))
  call('ZREM', keys[FAILED], id)
  end_task(keys, job, member, 'failed', m, m.consumer, now, m.error) -- counted when it was dead-lettered
  fail_member(keys, job, member, m.error, now)
end

local function tend_active(keys, job, argv, now)
  for i = 2, math.min(#argv, 501) do audit(keys, job, argv[i], now) end
  if JOB_OVER[job.state] then return 1, 0, '' end
  if job.sealed == 0 and job.touched + ABANDONED <= now then
    end_job(keys, job, 'failed', 'abandoned: its submitter did not finish within an hour', now)
    return 0, TEND_EVERY, ''
  end
  if job.state == 'mapping' and job.mapped > 0 and job.accepted < job.maps_failed then accept_losses(keys, job) end
  local more = job.sealed == 1 and feed(keys, job)
  add_ready(keys, job)
  more = more or (job.mapped > 0 and job.accepted < job.maps_failed) or call('LLEN', keys[AGAIN]) > 0 and job.live_maps < JOB_WINDOW
  call('ZADD', keys[JOBS_DUE], int(now + TEND_EVERY), job.id)
  return more and 1 or 0, TEND_EVERY, ''
end

local function tend_over(keys, job, gone, now)
  if call('HLEN', keys[LIVE]) > 0 and drop_live(keys, job, now) > 0 then return 1, 0, '' end
  local due, spill = job.finished + job.retention, ''
  if gone ~= '' then job.swept = 1 end
  if due <= now then
    if job.spill ~= '' and gone ~= 'all' and due + SPILL_GIVEN_UP > now then
      due, spill = now + SPILL_AGAIN, 'all'
    else
      forget_job(keys)
      return 0, -1, ''
    end
  elseif job.spill ~= '' and job.state == 'completed' and job.swept == 0 then
    due, spill = math.min(due, now + SPILL_AGAIN), 'data'
  end
  call('ZADD', keys[JOBS_DUE], int(due), job.id)
  return 0, due - now, spill
end

local function job_tend(keys, argv)
  local now = clock()
  check_job(keys)
  local job = load_job(keys, now)
  if not job then
    call('ZREM', keys[JOBS_DUE], job_id(keys))
    return { '', 0, -1, '' }
  end
  local more, due, spill
  if JOB_OVER[job.state] then
    more, due, spill = tend_over(keys, job, argv[1], now)
  else
    more, due, spill = tend_active(keys, job, argv, now)
  end
  if due == -1 then bump(keys, now, job.totals, job.kinds) else save_job(keys, job, now) end
  return { job.state, more, due, spill }
end

local function job_backup(keys, argv)
  local now = clock()
  check_job(keys)
  local job = load_job(keys, now)
  if not job or JOB_OVER[job.state] or job.backups == 0 then return 0 end
  local maps, reduces, payloads = {}, {}, {}
  for i = 1, math.min(#argv, 100) do
    local member = argv[i]
    local copyable = find(member, '^[mr]:%d+%.?%d*$') and call('HEXISTS', keys[LIVE], member) == 1
    if copyable and call('HEXISTS', keys[LIVE], twin_of(member)) == 0 then
      local list = is_map(member) and maps or reduces
      list[#list + 1] = twin_of(member)
      if list == maps then payloads[#maps] = call('HGET', keys[CHUNKS], sub(member, 3)) or 'null' end
    end
  end
  add_members(keys, job, job.map_start, maps, payloads)
  payloads = {}
  for i, member in ipairs(reduces) do payloads[i] = reduce_payload(member) end
  add_members(keys, job, job.reduce_start, reduces, payloads)
  job.maps_backup, job.reduces_backup = job.maps_backup + #maps, job.reduces_backup + #reduces
  save_job(keys, job, now)
  return #maps + #reduces
end

local function job_reducing(keys)
  local fields = call('HMGET', keys[JOB], 'state', 'mapped', 'reducing')
  if (tonumber(fields[2] or '0') or 0) == 0 or (tonumber(fields[3] or '0') or 0) > 0 then return 0 end
  call('HSET', keys[JOB], 'reducing', int((clock())))
  if fields[1] == 'shuffling' then call('HSET', keys[JOB], 'state', 'reducing') end
  return 1
end

register('job_tend', job_tend, 'allow-oom', { "the job's 12" })
register('job_backup', job_backup, nil, { "the job's 12" })
register('job_reducing', job_reducing, 'allow-oom', { "the job's 12" })
