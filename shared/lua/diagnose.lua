--[[ What doctor finds wrong with one id, and how it is mended: what examine and job_examine share.

Judging and mending are one walk in one call, so a task that moves between two steps is never taken for a lost one, and
what is mended is what was wrong in that very moment. Mending twice is harmless: the second time nothing is wrong.

no-task   a place without a task         -> the place is cleared
no-place  a task that is nowhere         -> pending, with its priority, behind those that are there
two-places                               -> one stays: running (the newest token) before pending, scheduled, failed
ended     a live task that has a result  -> the end stands
bad-score a score that no function makes -> the score that it would have now
no-index  a result that would never go   -> it goes after the default retention
no-result an index entry of no result; leftover: what belongs to a task that has gone -> cleared
stray     a step that its job does not want -> removed;  unlisted: one that it does want -> listed again
]]
local LATEST = 4503599627370496 -- 2^52: neither a time nor a score is beyond it

local function sound(score, most)
  local n = tonumber(score)
  return n and n >= 0 and n <= most
end

-- The walk, below. All else is in a block of its own: Lua allows 200 local names in one.
local visit

do
local MOST_LOOKS, MOST_HOLDERS = 50000, 10000

-- Whether every consumer with a session has its running hash among the keys: else one may hold what seems to be nowhere.
local function all_given(keys, first)
  if call('ZCARD', keys[CONSUMERS]) > MOST_HOLDERS then return false end
  local given, base = {}, prefix_of(keys) .. 'running:'
  for k = first, #keys do given[keys[k]] = true end
  for _, name in ipairs(call('ZRANGE', keys[CONSUMERS], 0, -1)) do
    if not given[base .. name] and not find(name, '[^%w._-]') then return false end
  end
  return true
end

-- id -> the running hashes that hold it: { key, value } each.
local function holders_of(keys, first, ids)
  local held = {}
  for k = first, #keys do
    for i, value in ipairs(call('HMGET', keys[k], unpack(ids))) do
      if value then
        held[ids[i]] = held[ids[i]] or {}
        table.insert(held[ids[i]], { key = keys[k], value = value })
      end
    end
  end
  return held
end

local function places_of(keys, id, held)
  local seen = { held = held or {}, pending = call('ZSCORE', keys[PENDING], id),
    scheduled = call('ZSCORE', keys[SCHEDULED], id), failed = call('ZSCORE', keys[FAILED], id) }
  seen.n = #seen.held + (seen.pending and 1 or 0) + (seen.scheduled and 1 or 0) + (seen.failed and 1 or 0)
  return seen
end

-- What is left of a task that is not there. A step of a job that has ended stays in its consumer's hands for a while.
local function judge_gone(keys, id, seen, job)
  if seen.n > (job and #seen.held or 0) then return 'no-task' end
  local result, goes = call('HEXISTS', keys[RESULTS], id) == 1, call('ZSCORE', keys[DONE], id)
  if result and not goes then return 'no-index' end
  if goes and not result then return 'no-result' end
  if goes and not sound(goes, LATEST) then return 'bad-score' end
  if call('HEXISTS', keys[META], id) == 1 or call('ZSCORE', keys[EXPIRING], id) or call('HEXISTS', keys[WAITERS], id) == 1 then return 'leftover' end
end

-- `job`, of a step: wants(id) says whether its job wants it ('yes', 'unlisted', 'no'), `over` whether it has ended.
local function judge(keys, id, held, job)
  local seen = places_of(keys, id, held)
  if call('HEXISTS', keys[TASKS], id) == 0 then return judge_gone(keys, id, seen, job), seen end
  -- A dead letter stays until somebody deals with it, also one that had the id of a step and no job (see job_settle).
  local wanted = job and not seen.failed and job.wants(id) or 'yes'
  if wanted ~= 'yes' then return wanted == 'no' and 'stray' or 'unlisted', seen end
  if call('HEXISTS', keys[RESULTS], id) == 1 then return 'ended', seen end
  -- A step of a job that is over may be nowhere: its consumer let go of it, and the maintainer removes it.
  if seen.n == 0 then return not (job and job.over) and 'no-place' or nil, seen end
  if seen.n > 1 then return 'two-places', seen end
  if seen.pending and not (sound(seen.pending, LATEST) and tonumber(seen.pending) % 1 == 0)
    or seen.scheduled and not sound(seen.scheduled, LATEST + 1) or seen.failed and not sound(seen.failed, LATEST) then return 'bad-score', seen end
  return nil, seen
end

local function leave_places(keys, id, seen, stays)
  for _, name in ipairs { 'pending', 'scheduled', 'failed' } do
    if seen[name] and name ~= stays then call('ZREM', keys[({ pending = PENDING, scheduled = SCHEDULED, failed = FAILED })[name]], id) end
  end
  for _, holder in ipairs(seen.held) do
    if holder ~= stays then call('HDEL', holder.key, id) end
  end
end

local function forget_task(keys, id, seen)
  leave_places(keys, id, seen)
  call('HDEL', keys[TASKS], id)
  call('HDEL', keys[META], id)
  call('ZREM', keys[EXPIRING], id)
end

local function to_pending(keys, id) call('ZADD', keys[PENDING], score_behind(keys, id), id) end

-- Of several places the one that stays. A holder without a session cannot go on: it is the last choice.
local function best_place(keys, seen)
  local best, newest = nil, -1
  for _, holder in ipairs(seen.held) do
    local token = tonumber(match(holder.value, '^(%d+) ')) or 0
    if token > newest and call('ZSCORE', keys[CONSUMERS], match(holder.key, ':running:(.*)$')) then best, newest = holder, token end
  end
  return best or seen.pending and 'pending' or seen.scheduled and 'scheduled' or seen.failed and 'failed' or seen.held[1]
end

local function mend_score(keys, id, seen, now)
  if seen.pending then
    to_pending(keys, id)
  elseif seen.scheduled then
    call('ZADD', keys[SCHEDULED], due_score(now, DEFAULT.priority), id)
  elseif seen.failed then
    call('ZADD', keys[FAILED], int(now), id)
  else
    call('ZADD', keys[DONE], int(now + DEFAULT.retention), id)
  end
end

local MEND = {
  ['no-place'] = function(keys, id) to_pending(keys, id) end,
  ['two-places'] = function(keys, id, seen) leave_places(keys, id, seen, best_place(keys, seen)) end,
  ['bad-score'] = mend_score,
  ['no-index'] = function(keys, id, _, now) call('ZADD', keys[DONE], int(now + DEFAULT.retention), id) end,
  ['no-result'] = function(keys, id) call('ZREM', keys[DONE], id) end,
  ['no-task'] = function(keys, id, seen, _, job)
    if job then seen.held = {} end
    leave_places(keys, id, seen)
    call('HDEL', keys[META], id)
    call('ZREM', keys[EXPIRING], id)
  end,
  leftover = function(keys, id)
    call('HDEL', keys[META], id)
    call('ZREM', keys[EXPIRING], id)
    call('HDEL', keys[WAITERS], id)
  end,
  ended = function(keys, id, seen)
    forget_task(keys, id, seen)
    local sessions = call('HGET', keys[WAITERS], id)
    if sessions then tell(keys, id, sessions, call('HGET', keys[RESULTS], id)) end
  end,
  stray = function(keys, id, seen, now)
    forget_task(keys, id, seen)
    bump(keys, now, { deleted = 1 })
  end,
  unlisted = function(keys, id, _, _, job) job.list(id) end,
}

-- Looks at ids, and mends them if that is asked for. Reply: 1, then id and finding in turn; 0 alone if a consumer's key was missing.
visit = function(keys, ids, first, job, mends)
  if #ids * (#keys - first + 2) > MOST_LOOKS or #ids > MAX_BATCH then return refuse('too many ids for so many consumers') end
  if not all_given(keys, first) then return { 0 } end
  local now = clock()
  check_finish(keys)
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[SCHEDULED]); call('ZCARD', keys[PARKED])
  local held, reply, woken = ids[1] and holders_of(keys, first, ids) or {}, { 1 }, 0
  for _, id in ipairs(ids) do
    local finding, seen = judge(keys, id, held[id], job)
    if finding then
      reply[#reply + 1], reply[#reply + 2] = id, finding
      if mends then MEND[finding](keys, id, seen, now, job) end
      if finding == 'no-place' then woken = woken + 1 end
    end
  end
  if mends and woken > 0 and not is_paused(keys) then wake(keys, woken) end
  return reply
end
end
