--[[ job_examine and job_mend: a job's record against its sets, and its steps. docs/operations.md (doctor) explains the findings.

job_examine: KEYS the shared keys, the job's 12 and the running hashes of all consumers   ARGV '1' = look at the job itself, too | ids of its
             steps   Reply as examine; of the job itself under its id: ghost-job, damaged-job, untended-job, job-counts, job-stuck,
             lost-output, lost-chunk; under the id of a step that is live without a task: no-step. Reads only.
job_mend:    KEYS as job_examine   ARGV as job_examine   Reply what was mended, at most 50 lost steps. Refused under OOM.
             A damaged record is told and left alone.
]]
local MOST_LIVE, MOST_FED, MOST_CHILDREN, MOST_NODES = 20000, 50, 1000, 2000

-- Whether a stored task is a step at all: an id of this form is anybody's to choose.
local function is_step(keys, id)
  local kind = options_of(call('HGET', keys[TASKS], id) or '').type
  return kind == 'map' or kind == 'reduce'
end

-- Whether a node of a fold has something left to fold: its children go when it is done.
local function has_children(keys, job, level, node)
  local _, _, fan = levels_of(job)
  for child = node * fan, node * fan + math.min(fan, MOST_CHILDREN) - 1 do
    if call('HEXISTS', keys[DATA], int(level - 1) .. '.' .. int(child)) == 1 then return true end
  end
  return false
end

local function wants_member(keys, job, member)
  if call('HEXISTS', keys[LIVE], member) == 1 then return 'yes' end
  if JOB_OVER[job.state] then return 'no' end
  local chunk, level, node = match(member, '^m:(%d+)$'), match(member, '^r:(%d+)%.(%d+)$')
  if chunk then
    return call('HEXISTS', keys[CHUNKS], chunk) == 1 and not call('ZSCORE', keys[LOST], chunk) and 'unlisted' or 'no'
  end
  if level then return has_children(keys, job, tonumber(level), tonumber(node)) and 'unlisted' or 'no' end
  local partition = match(member, '^r:(%d+)$')
  return partition and job.mapped > 0 and call('HEXISTS', keys[OUT], partition) == 0 and 'unlisted' or 'no'
end

-- What diagnose.lua asks of the job of a step.
local function as_owner(keys, job, damaged)
  return {
    over = damaged or not job or JOB_OVER[job.state],
    wants = function(id)
      if damaged then return 'yes' end
      if job and sub(id, 1, #job.base) == job.base then
        local wanted = wants_member(keys, job, sub(id, #job.base + 1))
        if wanted == 'yes' then return wanted end
        return is_step(keys, id) and wanted or 'yes'
      end
      return is_step(keys, id) and 'no' or 'yes'
    end,
    list = function(id) call('HSET', keys[LIVE], sub(id, #job.base + 1), '1') end,
  }
end

-- Nothing of it runs, waits, or is to be fed: nothing would ever go on.
local function is_idle(keys, job)
  return job.sealed == 1 and not JOB_OVER[job.state] and call('HLEN', keys[LIVE]) == 0 and call('LLEN', keys[AGAIN]) == 0
    and job.next >= job.maps and not (job.mapped > 0 and job.accepted < job.maps_failed)
end

-- What the counters of an active job have to be, by its sets. That of the chunks that are done is told by those that are left
-- only when none is under way: one that somebody removed is noticed by its map, and must not count as done before.
local function counted(keys, job)
  if job.sealed == 0 or JOB_OVER[job.state] or call('HLEN', keys[LIVE]) > MOST_LIVE then return {} end
  local live_maps = 0
  for _, member in ipairs(call('HKEYS', keys[LIVE])) do
    if find(member, '^m:%d+$') then live_maps = live_maps + 1 end
  end
  local idle = job.mapped == 0 and is_idle(keys, job)
  return { live_maps = live_maps, maps_failed = call('ZCARD', keys[LOST]), maps_done = idle and job.maps - call('HLEN', keys[CHUNKS]) or nil }
end

local function judge_job(keys, job)
  local listed, due = call('ZSCORE', keys[JOBS], job_id(keys)), call('ZSCORE', keys[JOBS_DUE], job_id(keys))
  if call('EXISTS', keys[JOB]) == 0 then
    local parts = 0
    for key = CHUNKS, AGAIN do parts = parts + call('EXISTS', keys[key]) end
    -- A word to the submitter of a job that was deleted is no part of one.
    local is_list, first = pcall(call, 'LRANGE', keys[AGAIN], 0, 0)
    if is_list and find(first[1] or '', '^deleted ') then parts = parts - 1 end
    return (listed or due or parts > 0) and 'ghost-job' or nil
  end
  if not job then return 'damaged-job' end
  if not listed or not due or not sound(due, LATEST) then return 'untended-job' end
  for name, n in pairs(counted(keys, job)) do
    if job[name] ~= n then return 'job-counts' end
  end
  if is_idle(keys, job) then return 'job-stuck' end
end

-- Chunks that are neither done nor lost run again.
local function again_maps(keys)
  for _, chunk in ipairs(call('HRANDFIELD', keys[CHUNKS], MOST_LIVE)) do
    if find(chunk, '^%d+$') and not call('ZSCORE', keys[LOST], chunk) then call('RPUSH', keys[AGAIN], 'm:' .. chunk) end
  end
end

-- Reduces that have all they need and left no output run again.
local function again_reduces(keys, job)
  if job.form == 'keyed' then
    for partition = 0, job.partitions - 1 do
      if call('HEXISTS', keys[OUT], int(partition)) == 0 then call('RPUSH', keys[AGAIN], 'r:' .. int(partition)) end
    end
    return
  end
  local sizes, top = levels_of(job)
  for level = 1, top do
    for node = 0, math.min(sizes[level], MOST_NODES) - 1 do
      local place = int(level) .. '.' .. int(node)
      -- Children that are counted in the tree are not all there yet.
      if call('HEXISTS', keys[TREE], place) == 0 and has_children(keys, job, level, node) then call('RPUSH', keys[AGAIN], 'r:' .. place) end
    end
  end
end

local MEND_JOB = {
  ['damaged-job'] = function() end,
  ['ghost-job'] = function(keys) forget_job(keys) end,
  ['untended-job'] = function(keys, job, now)
    call('ZADD', keys[JOBS], int(job.created), job.id)
    call('ZADD', keys[JOBS_DUE], int(now), job.id)
    wake_maintainer(keys, 'jobs')
  end,
  ['job-counts'] = function(keys, job, now)
    for name, n in pairs(counted(keys, job)) do job[name] = n end
    if job.maps_failed > allowed_losses(job) then
      end_job(keys, job, 'failed', 'more chunks had failed than may: found by doctor', now)
    else
      check_mapped(keys, job, now) -- the count that was wrong may be all that it waited for
    end
  end,
  ['job-stuck'] = function(keys, job, now)
    if job.mapped > 0 then again_reduces(keys, job) else again_maps(keys) end
    if call('LLEN', keys[AGAIN]) == 0 then return end_job(keys, job, 'failed', 'stuck, and nothing is left to run it from: found by doctor', now) end
    feed(keys, job)
  end,
}

-- Steps that are live without a task: nothing would ever end them.
local function lost_steps(keys, job)
  local lost = {}
  if JOB_OVER[job.state] or call('HLEN', keys[LIVE]) > MOST_LIVE then return lost end
  for _, member in ipairs(call('HKEYS', keys[LIVE])) do
    if #lost < MOST_FED and call('HEXISTS', keys[TASKS], job.base .. member) == 0 then lost[#lost + 1] = member end
  end
  return lost
end

-- Its task is made again, from the chunk; a second copy is not, and what has no description any more has failed.
local function feed_step(keys, job, member, now)
  local chunk = is_map(member) and call('HGET', keys[CHUNKS], sub(member, 3))
  if sub(member, -2) == ':b' then
    end_member(keys, job, member)
  elseif chunk then
    add_members(keys, job, job.map_start, { member }, { chunk })
  elseif is_map(member) then
    fail_member(keys, job, member, 'its task and its description were removed: found by doctor', now)
  else
    add_members(keys, job, job.reduce_start, { member }, { reduce_payload(member) })
  end
end

-- What of a job's data is not there. One local for all of it: Lua allows 200.
local loss = { text = 'an output is gone' }

-- What `kept` counts is there, unless somebody removed it; an earlier release counted nothing.
function loss.of_output(keys, job)
  return job.counted == job.maps_done + job.reduces_done and call('HLEN', keys[DATA]) < job.kept and not find(job.error, loss.text, 1, true)
end

-- The chunks that were fed and have not ended: those of tasks, and those that are to run again. nil if they are too many to look at.
function loss.fed(keys)
  if call('HLEN', keys[LIVE]) + call('LLEN', keys[AGAIN]) > MOST_LIVE then return nil end
  local chunks, seen = {}, {}
  for _, members in ipairs { call('HKEYS', keys[LIVE]), call('LRANGE', keys[AGAIN], 0, -1) } do
    for _, member in ipairs(members) do
      local chunk = match(member, '^m:(%d+)')
      if chunk and not seen[chunk] then seen[chunk], chunks[#chunks + 1] = true, chunk end
    end
  end
  return chunks
end

-- A chunk is described until it is done, and for good if it is lost.
function loss.of_chunk(keys, job)
  local chunks = job.sealed == 1 and loss.fed(keys)
  return chunks and call('HLEN', keys[CHUNKS]) < job.maps - job.next + #chunks + call('ZCARD', keys[LOST])
end

-- A task that waits or runs holds what its chunk is.
function loss.describe(keys, job)
  for _, chunk in ipairs(loss.fed(keys)) do
    local record = call('HEXISTS', keys[CHUNKS], chunk) == 0 and call('HGET', keys[TASKS], job.base .. 'm:' .. chunk)
    local payload = record and match(record, '^[^\n]*\n[^\n]*\n(.*)$')
    if payload then call('HSET', keys[CHUNKS], chunk, payload) end
  end
end

-- Only what is mended here is said to be.
function loss.visit(keys, job, reply, mends, now)
  if job.state == 'completed' then return end
  if loss.of_chunk(keys, job) then
    if mends then loss.describe(keys, job) end
    if not mends or not loss.of_chunk(keys, job) then reply[#reply + 1], reply[#reply + 2] = job.id, 'lost-chunk' end
  end
  if loss.of_output(keys, job) and not (mends and JOB_OVER[job.state]) then
    reply[#reply + 1], reply[#reply + 2] = job.id, 'lost-output'
    if mends then end_job(keys, job, 'failed', loss.text .. ', and what made it is done and does not run again: found by doctor', now) end
  end
end

local function visit_job(keys, job, reply, mends, now)
  local finding = judge_job(keys, job)
  if finding then
    reply[#reply + 1], reply[#reply + 2] = job_id(keys), finding
    if mends then MEND_JOB[finding](keys, job, now) end
  end
  if not job then return end
  loss.visit(keys, job, reply, mends, now)
  for _, member in ipairs(lost_steps(keys, job)) do
    reply[#reply + 1], reply[#reply + 2] = job.base .. member, 'no-step'
    if mends and not JOB_OVER[job.state] then feed_step(keys, job, member, now) end
  end
  if mends then
    add_ready(keys, job)
    save_job(keys, job, now)
  end
end

local function of_job(mends)
  return function(keys, argv)
    local now = clock()
    check_job(keys)
    local job, damaged = load_job(keys, now)
    damaged = damaged or (not job and call('EXISTS', keys[JOB]) == 1)
    local ids = { unpack(argv, 2) }
    local reply = visit(keys, ids, JOB_OWN + 1, as_owner(keys, job, damaged), mends)
    if reply[1] == 1 and argv[1] == '1' then visit_job(keys, job, reply, mends, now) end
    return reply
  end
end

register('job_examine', of_job(false), 'no-writes', { "the job's 12" })
register('job_mend', of_job(true), nil, { "the job's 12" })
