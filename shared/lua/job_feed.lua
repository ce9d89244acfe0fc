--[[ Feeding: how chunks and reduces of a job become tasks.

At most JOB_WINDOW map tasks of a job exist at a time; each settled one makes room for the next. So a
job of a million chunks is cancelled in a moment, and its chunks are kept once.
]]
local JOB_WINDOW, FEED_BYTES = 2000, 4194304

-- Adds tasks for members (payloads beside them) with the head that was parsed as `head`.
local function add_members(keys, job, head, members, payloads)
  local n = #members
  if n == 0 then return end
  local sequence, records, pending, live = tonumber(call('HGET', keys[STATE], 'seq') or '0'), {}, {}, {}
  for i = 1, n do
    local id = job.base .. members[i]
    records[2 * i - 1], records[2 * i] = id, head.start .. payloads[i]
    pending[2 * i - 1], pending[2 * i] = pending_score(head.priority, sequence + i), id
    live[2 * i - 1], live[2 * i] = members[i], '1'
  end
  call('HSET', keys[STATE], 'seq', int(sequence + n))
  call('HSET', keys[TASKS], unpack(records))
  call('ZADD', keys[PENDING], unpack(pending))
  call('HSET', keys[LIVE], unpack(live))
  count_task(job, 'submitted', head.kind, n)
  if not is_paused(keys) then wake(keys, n) end
end

local function reduce_payload(member)
  local level, node = match(member, '^r:(%d+)%.(%d+)')
  if level then return '{"level":' .. level .. ',"node":' .. node .. '}' end
  return '{"partition":' .. match(member, '^r:(%d+)') .. '}'
end

-- Adds the reduces that have become ready in this call.
local function add_ready(keys, job)
  local payloads = {}
  for i, member in ipairs(job.ready) do payloads[i] = reduce_payload(member) end
  add_members(keys, job, job.reduce_start, job.ready, payloads)
  job.ready = {}
end

-- What a retry runs again comes first: chunks go to `numbers`, reduces become ready.
local function feed_again(keys, job, numbers, most)
  local members = call('LPOP', keys[AGAIN], most)
  for _, member in ipairs(members or {}) do
    local chunk = match(member, '^m:(%d+)$')
    if chunk then
      numbers[#numbers + 1] = chunk
    elseif find(member, '^r:%d+%.?%d*$') then
      job.ready[#job.ready + 1] = member
    end
  end
end

-- True if this step left chunks outside for which there is room. Large ones are fed as others end.
local function feed(keys, job)
  local most = math.min(JOB_WINDOW - job.live_maps, JOB_STEP)
  if job.largest > 0 then most = math.min(most, math.max(1, floor(FEED_BYTES / job.largest))) end
  if most < 1 then return end
  local numbers = {}
  if call('LLEN', keys[AGAIN]) > 0 then feed_again(keys, job, numbers, most) end
  while #numbers < most and job.next < job.maps do
    numbers[#numbers + 1] = int(job.next)
    job.next = job.next + 1
  end
  if numbers[1] then
    local payloads, members = call('HMGET', keys[CHUNKS], unpack(numbers)), {}
    for i, number in ipairs(numbers) do
      members[i] = 'm:' .. number
      payloads[i] = payloads[i] or 'null' -- somebody removed it: its map fails and says so
    end
    add_members(keys, job, job.map_start, members, payloads)
    job.live_maps = job.live_maps + #members
  end
  add_ready(keys, job)
  return job.next < job.maps and job.live_maps < JOB_WINDOW and job.live_maps * job.largest < FEED_BYTES
end
