--[[ claim: pending tasks to one consumer, with a fencing token. Runs under OOM, so that a queue drains.

KEYS  the shared keys, running:<consumer>, session:<consumer>
ARGV  consumer | most tasks | highest token that the consumer received | '1' = park if there are fewer
      | most bytes | rank when parked and its grain: the lowest `rank + token of the last claim / grain` is woken first ('' or
      left out: the time of parking in us) | '1' = says which suspect it starts, by `try` ('0' or left
      out: it does not); '2' = and holds nothing in any
      queue: if this brings one task, that is said of it
Reply status ('ok', 'more' = fewer than asked for although there are more, so not parked: claim again,
      'paused', 'lost' = no session, register anew), the fencing token of these tasks, then per task 3:
      id, record, meta ('' = none)

A claim whose reply was lost strands nothing: the session remembers the last token it gave, and a
claim that comes with an older one first gets again what its running hash holds above it.
]]
local CLAIM_CHUNK = 25 -- records read at once; fewer, if the first says that they are large

-- Not yet received by the consumer: the replies to earlier claims were lost. One claim's worth: that
-- of the lowest token above what it has; the next call brings the next.
local function redeliver(keys, running, above)
  local held, lowest = call('HGETALL', running), math.huge
  for i = 2, #held, 2 do
    local token = tonumber(match(held[i], '^(%d+) '))
    if token and token > above and token < lowest then lowest = token end
  end
  local reply, start = { 'more', int(lowest == math.huge and 0 or lowest) }, int(lowest == math.huge and 0 or lowest) .. ' '
  for i = 1, #held, 2 do
    local record = sub(held[i + 1], 1, #start) == start and call('HGET', keys[TASKS], held[i])
    if record then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = held[i], record, call('HGET', keys[META], held[i]) or ''
    end
  end
  return reply
end

-- The first n ids of PENDING and their scores: a list, or only the first as a number if they are
-- consecutive. Mostly they are, which the ends tell (scores are whole and none stands twice), and a
-- score that Redis prints costs more than one counted up here.
local function head_of(keys, n)
  local end_at = small(n - 1)
  if n > FEW then
    local first = call('ZRANGE', keys[PENDING], '0', '0', 'WITHSCORES')[2]
    local last = call('ZRANGE', keys[PENDING], end_at, end_at, 'WITHSCORES')[2]
    if last - first == n - 1 then return call('ZRANGE', keys[PENDING], '0', end_at), nil, tonumber(first) end
  end
  local pairs, ids, scores = call('ZRANGE', keys[PENDING], '0', end_at, 'WITHSCORES'), {}, {}
  for i = 1, #pairs / 2 do ids[i], scores[i] = pairs[2 * i - 1], pairs[2 * i] end
  return ids, scores
end

-- Takes the head of PENDING up to n tasks and `room` bytes; reads only. Lists side by side: a
-- table per task would cost more than the task.
local function take(keys, n, room)
  local waiting = call('ZCARD', keys[PENDING])
  if waiting == 0 then return { count = 0, waiting = 0 } end
  local ids, scores, first = head_of(keys, math.min(n, waiting))
  local has_meta, bytes, count = call('HLEN', keys[META]) > 0, 0, 0
  local taken = { ids = ids, scores = scores, first = first, records = {}, metas = {}, count = 0, waiting = waiting, may_end = false }
  -- What is read is copied, also what then does not fit: a task of 1 MiB must not cost the reading of 25. The first is
  -- taken whatever its size.
  local size = ids[2] and call('HSTRLEN', keys[TASKS], ids[1]) or 0
  local chunk = math.max(1, math.min(CLAIM_CHUNK, floor(room / math.max(1, size))))
  for from = 1, #ids, chunk do
    if chunk == 1 and count > 0 and bytes + size > room then return taken end
    local to = math.min(#ids, from + chunk - 1)
    local records = call('HMGET', keys[TASKS], unpack(ids, from, to))
    local metas = has_meta and call('HMGET', keys[META], unpack(ids, from, to)) or {}
    for j = 1, #records do
      local record = records[j]
      if record then bytes = bytes + #record end
      if bytes > room and count > 0 then return taken end
      count = count + 1
      taken.records[count], taken.metas[count], taken.count = record, metas[j] or '', count
      if not record or byte(record, 1) == 101 then taken.may_end = true end
    end
  end
  return taken
end

local function hand_out(keys, running, session, taken, now, token, holding, tries)
  local held, reply = {}, { 'ok', token }
  call('ZREMRANGEBYRANK', keys[PENDING], '0', small(taken.count - 1))
  local start, size, holds = token .. ' ', 2, 0
  local counted = taken.first and series(start, taken.first, taken.count)
  for i = 1, taken.count do
    local id, record, meta = taken.ids[i], taken.records[i], taken.metas[i]
    if not record then
      bump(keys, now, { deleted = 1 }) -- a place without a task: never run, never kept
    elseif is_expired(record, now) then
      expire_task(keys, id, record, meta, now)
    else
      held[holds + 1], held[holds + 2] = id, counted and counted[i] or start .. taken.scores[i]
      holds = holds + 2
      reply[size + 1], reply[size + 2], reply[size + 3] = id, record, meta
      size = size + 3
    end
  end
  if held[1] then
    set_wide(running, holding, held)
    call('HSET', keys[STATE], 'token', token)
    local tried = tries == '2' and holding == 0 and holds == 2 and token .. ' ' .. held[1]
    if tried then
      call('HSET', session, 'claimed', token, 'tries', '1', 'tried', tried)
    else
      call('HSET', session, 'claimed', token, 'tries', tries == '0' and '0' or '1')
    end
  end
  return reply
end

local function claim(keys, argv)
  local running, session = keys[OWN + 1], keys[OWN + 2]
  local consumer, n, above, room = argv[1], tonumber(argv[2]), tonumber(argv[3]), tonumber(argv[5])
  local rank, grain, tries = tonumber(argv[6] or ''), tonumber(argv[7] or '1'), argv[8] ~= '' and argv[8] or '0'
  if not (n and n >= 1 and n <= MAX_BATCH and above and above >= 0 and room and room >= 0) then return refuse('claim takes 1 to ' .. MAX_BATCH .. ' tasks') end
  if argv[4] ~= '' and argv[4] ~= '0' and argv[4] ~= '1' then return refuse('park must be 0 or 1') end
  if argv[6] and argv[6] ~= '' and not rank then return refuse('rank must be a number') end
  if tries ~= '0' and tries ~= '1' and tries ~= '2' then return refuse('what is said of suspects must be 0, 1 or 2') end
  if rank and not (rank >= 0 and rank < 9007199254740992 and grain and grain >= 1) then return refuse('rank must be below 2^53, its grain at least 1') end
  if not call('ZSCORE', keys[CONSUMERS], consumer) then return { 'lost' } end
  local claimed = call('HGET', session, 'claimed')
  if claimed and claimed ~= argv[3] and tonumber(claimed) > above then
    local again = redeliver(keys, running, above)
    if again[3] then return again end
  end
  local now, us = clock()
  local paused, last = is_paused(keys), tonumber(call('HGET', keys[STATE], 'token') or '0')
  local taken = paused and { count = 0, waiting = 0 } or take(keys, n, room)
  local holding, parked = call('HLEN', running), call('ZCARD', keys[PARKED])
  if taken.may_end then check_finish(keys) end

  local reply = { paused and 'paused' or 'ok', '0' }
  if taken.count > 0 then reply = hand_out(keys, running, session, taken, now, int(math.max(last + 1, us)), holding, tries) end
  if taken.count < n and taken.count == taken.waiting then
    -- This very claim may be the last: whoever was served just now stands behind those who were not.
    local served = taken.count > 0 and reply[2] or argv[3]
    if argv[4] == '1' then call('ZADD', keys[PARKED], int(rank and rank + floor(tonumber(served) / grain) or us), consumer) end
  else
    -- We have all we asked for: a wake-up meant for us would be wasted. There is more than we took:
    -- pass it on.
    if parked > 0 then parked = parked - call('ZREM', keys[PARKED], consumer) end
    if #reply - 2 < 3 * n then reply[1] = 'more' end
    if parked > 0 and taken.waiting > taken.count then wake(keys, 1) end
  end
  return reply
end

register('claim', claim, 'allow-oom', { 'running:<consumer>', 'session:<consumer>' })
