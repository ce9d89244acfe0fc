--[[ Overload: what a queue with `max_pending` or `max_bytes` does when it is full.

Only what is new is ever refused, and only at the door: enqueue and ingest. Retries, promotions, what a
dead consumer held and the steps of a job were accepted before and always come in, so the depth can stand
above the limit for a while; until it is below again, nothing new comes in.

`overload` says who gives way: reject and block refuse the new task (the client of a queue that blocks
waits and asks again), shed sends the least urgent pending tasks into the dead-letter set, reason `shed`,
if the new one is more urgent than they are. At equal priority who is there stays.

What was handed back for a while counts as what waits: else a kind with few slots, or one whose breaker is open, would keep
the door open for good.

`max_bytes` bounds the memory of all records, delayed and running tasks and dead letters too. It is looked at before a call, which
then comes in whole: the last one may go over. Shedding frees no memory, since a dead letter keeps its payload: then the new is refused.
]]
local MAX_SHED = 50 -- each has its record read, payload included: bounded, as in fail

local read_limit, full, handed_back, pending_since -- below, in a block: Lua allows 200 local names in one

do
  local PACE_MINUTES = 5
  local SHORTEST_SPAN = 5000 -- ms
  local SAMPLES = 50 -- records whose sizes stand for all
  local POLICIES = { block = 'block', shed = 'shed' }

  local AWAY = 80000 -- ms: nothing is handed back for longer

  -- How many tasks were handed back unstarted for a while, because their kind is full or its breaker open, and are only for
  -- that scheduled: they wait as much as what is pending. Each that was handed back before says so in its meta; of many a few
  -- are looked at. A delayed task has no meta.
  function handed_back(keys, now)
    local n = call('ZCOUNT', keys[SCHEDULED], '-inf', int(now + AWAY))
    if n == 0 or call('HLEN', keys[META]) == 0 then return 0 end
    local ids, seen = {}, 0
    if n <= SAMPLES then
      ids = call('ZRANGE', keys[SCHEDULED], '0', int(n - 1))
    else
      local part, each = floor(n / 5), floor(SAMPLES / 5) -- five runs of ten
      for i = 0, 4 do
        local from = i * part + now % (part - each + 1)
        local run = call('ZRANGE', keys[SCHEDULED], int(from), int(from + each - 1))
        for j = 1, #run do ids[#ids + 1] = run[j] end
      end
    end
    local metas = call('HMGET', keys[META], unpack(ids))
    for i = 1, #ids do
      if metas[i] and match(metas[i], '^%d+ %d+ ([1-9])') then seen = seen + 1 end
    end
    return floor(n * seen / #ids + 0.5)
  end

  -- A limit among the settings; what somebody else put there is none.
  local function limit_of(setting) return tonumber(match(setting or '', '^%d+$') or '0') end

  -- The settings that adding needs, in one read; a queue without a limit pays nothing more.
  function read_limit(keys, plan)
    if call('HLEN', keys[CFG]) == 0 then return end -- most queues have no settings
    local cfg = call('HMGET', keys[CFG], 'paused', 'max_pending', 'overload', 'max_bytes')
    plan.paused = cfg[1] == '1'
    local limit, max_bytes = limit_of(cfg[2]), limit_of(cfg[4])
    if max_bytes > 0 then
      local held = call('MEMORY', 'USAGE', keys[TASKS], 'SAMPLES', SAMPLES) or 0
      if held >= max_bytes then plan.held_bytes, plan.max_bytes = held, max_bytes end
    end
    if limit < 1 and not plan.max_bytes then return end
    plan.limit, plan.policy = limit, POLICIES[cfg[3]] or 'reject'
    plan.depth = call('ZCARD', keys[PENDING]) + handed_back(keys, plan.now)
    plan.room = math.max(0, limit - plan.depth)
  end

  -- Tasks that have left by themselves since a snapshot: completed, failed, expired, without the shed. What somebody cancelled says
  -- nothing of how fast the rest will go.
  local function left_for_good(totals)
    local sum = 0
    for _, i in ipairs { 2, 3, 6 } do sum = sum + (tonumber(totals[i]) or 0) end
    return sum - (tonumber(totals[SHED]) or 0)
  end

  -- The pending task that came in first: within a priority it is the first, so one look per priority finds it.
  local function oldest_pending(keys)
    local id, first, from = nil, math.huge, '-inf'
    for _ = 0, 255 do
      local next = call('ZRANGE', keys[PENDING], from, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
      if not next[1] then break end
      local score = tonumber(next[2])
      local priority = floor(score / PRIORITY_SPAN)
      if score - priority * PRIORITY_SPAN < first then id, first = next[1], score - priority * PRIORITY_SPAN end
      from = int((priority + 1) * PRIORITY_SPAN)
    end
    return id
  end

  -- Since when it could run, ms: created, due, or given back by its last failure, whatever was last; nil if nothing is pending.
  function pending_since(keys)
    local id = oldest_pending(keys)
    local record = id and call('HGET', keys[TASKS], id)
    if not record then return nil end
    local m = parse_meta(call('HGET', keys[META], id))
    return math.max(tonumber(created_of(record)), options_of(record).not_before or 0, tonumber(m.at))
  end

  -- What ended since the beginning of each of the last minutes in which something happened, the oldest first: { minute's begin, n }.
  local function ended_since(keys, now)
    local minute, places, found = floor(now / 60000), {}, {}
    for i = 1, PACE_MINUTES + 1 do places[i] = int((minute - PACE_MINUTES - 1 + i) % 1440) end
    local ended
    for i, row in ipairs(call('HMGET', keys[MINUTES], unpack(places))) do
      local at = minute - PACE_MINUTES - 1 + i
      if row and match(row, '^%d+') == int(at) then
        local before = {}
        for word in string.gmatch(sub(row, #int(at) + 2), '%d+') do before[#before + 1] = word end
        ended = ended or left_for_good(call('HMGET', keys[STATS], unpack(COUNTERS)))
        found[#found + 1] = { at * 60000, ended - left_for_good(before) }
      end
    end
    return found
  end

  -- How long `depth` tasks take at the pace while there was work, in ms; nil if none has ended, or nobody is there to go on.
  -- That is what ended since the first whole minute that began with this backlog. A queue that moves has no task that old: then it
  -- is the best of the spans from the beginning of a minute until now. Nobody did more than he could, so a span in which some
  -- had nothing to do only makes the wait too long; one that has just begun is no pace yet.
  local function estimated_wait(keys, now, depth)
    if call('ZCOUNT', keys[CONSUMERS], int(now), '+inf') == 0 then return nil end
    local since, best = pending_since(keys), 0
    for _, span in ipairs(ended_since(keys, now)) do
      local at, ended = span[1], span[2]
      local pace = ended / math.max(SHORTEST_SPAN, now - at)
      if since and at >= since and now - at >= 60000 then
        best = pace
        break
      end
      best = math.max(best, pace)
    end
    return best > 0 and floor(depth / best) or nil
  end

  -- The answer to what cannot come in; nothing has changed.
  function full(keys, plan)
    local wait = estimated_wait(keys, plan.now, plan.depth)
    local why = fmt('FULL depth=%d limit=%d policy=%s wait_ms=%s', plan.depth, plan.limit, plan.policy, wait and int(wait) or 'unknown')
    if plan.max_bytes then why = why .. fmt(' bytes=%s max_bytes=%s', int(plan.held_bytes), int(plan.max_bytes)) end
    return redis.error_reply(why)
  end
end

-- The priority with which task `i` of the plan goes into pending; nil if it does not (delayed, a duplicate).
local function arrives_with(plan, list, i)
  if plan.duplicate[i] then return nil end
  local head = plan.heads[list[plan.from + 3 * i - 2]]
  if head.due and head.due > plan.now then return nil end
  return head.priority
end

-- Pending tasks that may give way, the least urgent first. The steps of a job may not: their job counts on them
-- (told by the id; one that only looks like it is spared too).
local function sheddable(keys)
  local found, last = {}, call('ZRANGE', keys[PENDING], 0, 2 * MAX_SHED - 1, 'REV', 'WITHSCORES')
  for i = 1, #last, 2 do
    local id = last[i]
    if #found < MAX_SHED and not find(id, ':[mr]:%d') then
      found[#found + 1] = { id = id, priority = floor(tonumber(last[i + 1]) / PRIORITY_SPAN) }
    end
  end
  return found
end

-- The first `n` of the victims go into the dead-letter set. Behind check_finish(), which reads what this writes.
local function shed(keys, plan, victims, n)
  local ids, kinds = {}, {}
  for i = 1, n do
    local id = victims[i].id
    call('ZREM', keys[PENDING], id)
    local record, m = call('HGET', keys[TASKS], id), parse_meta(call('HGET', keys[META], id))
    if record then -- else a place without a task: it has gone
      local why = 'made room for a more urgent task: the queue was full, max_pending=' .. int(plan.limit)
      if m.error ~= '' then why = why .. '; its last error: ' .. m.error end
      bury(keys, id, kind_of(record), created_of(record), m, plan.now, '-', 'shed', why)
      tally(kinds, kind_of(record))
      ids[#ids + 1] = id
    end
  end
  bump(keys, plan.now, { failed = #ids, shed = #ids }, { failed = kinds })
  follow(keys, plan.now, ids, 'failed')
end
