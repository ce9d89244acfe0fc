--[[ Fan-in: what the end of one task of a job sets going. All in the step that ends it.

Fold: node i of level l waits for the nodes i*F .. (i+1)*F-1 of level l-1; TREE counts those that are
done, and the last of them makes the node ready. Keyed: the last map makes all partitions ready.
]]
-- Sizes of the levels, the top one, the fan-in. There is always at least one reduce.
local function levels_of(job)
  if job.sizes then return job.sizes, job.top, job.fan end
  local fan = job.fan_in >= 2 and job.fan_in or math.max(job.maps, 1)
  local sizes, level = { [0] = job.maps }, 0
  repeat
    level = level + 1
    sizes[level] = math.ceil(sizes[level - 1] / fan)
  until sizes[level] <= 1
  job.sizes, job.top, job.fan = sizes, level, fan
  return sizes, level, fan
end

local function child_done(keys, job, level, node)
  local sizes, _, fan = levels_of(job)
  local place, children = int(level) .. '.' .. int(node), math.min(fan, sizes[level - 1] - node * fan)
  -- Counted in the table, written once by save_job(): siblings mostly end in one call.
  local done = (job.tree[place] or tonumber(call('HGET', keys[TREE], place) or '0') or 0) + 1
  job.tree[place] = done
  if done < children then return end
  job.tree[place] = nil
  call('HDEL', keys[TREE], place)
  job.ready[#job.ready + 1] = 'r:' .. place
end

local function enter_reduce(keys, job)
  call('UNLINK', keys[RUNS])
  if job.form == 'fold' then
    job.state = 'reducing'
    return
  end
  job.state = 'shuffling'
  for partition = 0, job.partitions - 1 do job.ready[#job.ready + 1] = 'r:' .. int(partition) end
end

-- Lost chunks are left out only when all others are done: a job that fails before loses none for good.
local function accept_losses(keys, job)
  if job.form == 'keyed' then
    job.accepted = job.maps_failed
  else
    local _, _, fan = levels_of(job)
    local lost = call('ZRANGE', keys[LOST], int(job.accepted), int(job.accepted + JOB_STEP - 1))
    for _, chunk in ipairs(lost) do child_done(keys, job, 1, floor(tonumber(chunk) / fan)) end
    job.accepted = job.accepted + #lost
    if #lost == 0 then job.accepted = job.maps_failed end
  end
  if job.accepted >= job.maps_failed then enter_reduce(keys, job) end
end

local function check_mapped(keys, job, now)
  if job.mapped > 0 or job.maps_done + job.maps_failed < job.maps then return end
  job.mapped = now
  accept_losses(keys, job)
end

local function allowed_losses(job)
  local whole, part = match(job.allow, '^(%d*)%.?(%d*)%%$')
  -- In whole numbers: 18.4 % of 375 is 69, and a little less as a product of doubles.
  if whole then return floor(job.maps * (tonumber(whole .. part) or 0) / (100 * 10 ^ #part)) end
  return tonumber(job.allow) or 0
end

local function first_line(text) return match(text, '^[^\n]*') end

-- A member has failed for good. If its other copy is under way, that one decides.
local function fail_member(keys, job, member, err, now)
  flush_done(keys, job)
  end_member(keys, job, member)
  note_error(keys, member, err, true)
  if call('HEXISTS', keys[LIVE], twin_of(member)) == 1 then return end
  local first = match(member, '^(.*):b$') or member
  if not is_map(first) then
    job.reduces_failed = job.reduces_failed + 1
    call('RPUSH', keys[AGAIN], first)
    return end_job(keys, job, 'failed', 'reduce ' .. first .. ' failed: ' .. first_line(err), now)
  end
  local chunk = sub(first, 3)
  call('ZADD', keys[LOST], chunk, chunk)
  job.maps_failed = job.maps_failed + 1
  if job.maps_failed > allowed_losses(job) then
    return end_job(keys, job, 'failed', 'chunk ' .. chunk .. ' failed: ' .. first_line(err), now)
  end
  check_mapped(keys, job, now)
end

local function map_done(keys, job, chunk, now)
  local _, _, fan = levels_of(job)
  job.maps_done = job.maps_done + 1
  if job.form == 'fold' then child_done(keys, job, 1, floor(tonumber(chunk) / fan)) end
  check_mapped(keys, job, now)
end

-- The children's outputs are in this node's: they go.
local function forget_children(keys, job, level, node)
  local sizes, _, fan = levels_of(job)
  local names = {}
  for child = node * fan, math.min((node + 1) * fan, sizes[level - 1]) - 1 do
    local name = int(level - 1) .. '.' .. int(child)
    job.bytes = job.bytes - call('HSTRLEN', keys[DATA], name)
    names[#names + 1] = name
  end
  job.kept = job.kept - call('HDEL', keys[DATA], unpack(names))
end

local function reduce_done(keys, job, member, now)
  job.reduces_done = job.reduces_done + 1
  local level, node = match(member, '^r:(%d+)%.(%d+)')
  local _, top, fan = levels_of(job)
  if not level then
    if job.reduces_done >= job.partitions then end_job(keys, job, 'completed', '', now) end
  elseif tonumber(level) >= top then
    end_job(keys, job, 'completed', '', now)
  else
    level, node = tonumber(level), tonumber(node)
    forget_children(keys, job, level, node)
    child_done(keys, job, level + 1, floor(node / fan))
  end
end
