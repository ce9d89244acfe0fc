--[[ dead and reclaim: the work of a consumer whose session lease ended goes back. Runs under OOM.

dead:    KEYS the shared keys   Reply up to 10 consumers whose lease has ended (none during grace)
reclaim: KEYS the shared keys, running:<dead>, session:<dead>, notices:<dead>
         ARGV dead consumer | most tasks
         Reply reclaimed | dead-lettered as poison | 1 if more are left

Only the end of a lease makes work reclaimable. Tasks keep their score, so they are next. One whose
consumers died 3 times (or max_attempts times, if that is more) is poison: into the dead-letter set. With the death that would
be the third only that one is charged that the consumer had started last of such (see suspect.lua), if it says so at all; three more are
borne by one that died beside others. leave: a consumer's own
good-bye, the same road without the crash count.

leave:   KEYS as reclaim   ARGV consumer | most tasks   Reply released | 0 | 1 if more are left
adopt:   KEYS as reclaim   ARGV consumer | most tasks   Reply as leave. The same for keys of a consumer that has no session, which
         nothing else would ever look at: doctor's. One with a session is left alone.
unpark:  KEYS the shared keys   ARGV consumer   Reply 1 if it was parked. One that begins to drain and was
         just woken passes the wake-up on.
pass_on: KEYS the shared keys   ARGV none   Reply pending tasks. One that was woken and has no room wakes another in its place. Its
         own place is left alone: this may come late, behind a claim of its own that parked it again, and then
         nobody would wake it. If it is the next to be woken it passes that on too, and is not parked any more.
]]
-- Whether sessions that have ended may be judged. Not during the lease that follows a silence, and not
-- before the silence has been noted: after an outage the caller of this may be back before anybody's
-- heartbeat is.
local function may_judge(keys, now)
  local state = call('HMGET', keys[STATE], 'grace', 'tick', 'lease')
  local silence = now - tonumber(state[2] or '0')
  return tonumber(state[1] or '0') <= now and silence >= 0 and silence <= tonumber(state[3] or '0') * 2 / 3
end

local function is_dead(keys, consumer, now)
  local ends = call('ZSCORE', keys[CONSUMERS], consumer)
  return ends and tonumber(ends) <= now and may_judge(keys, now)
end

local function dead(keys)
  local now = clock()
  if not may_judge(keys, now) then return {} end
  local ended, names = call('ZRANGEBYSCORE', keys[CONSUMERS], '-inf', int(now), 'LIMIT', 0, 1000), {}
  for _, name in ipairs(ended) do -- names that no consumer can have must not hide those that died
    if #names < 10 and not find(name, '[^%w._-]') then names[#names + 1] = name end
  end
  return names
end

-- Gives back up to `most` tasks of `running`, fewer if they are large. Returns how many, how many were poisoned, and both by kind. `tried`: which of the suspects
-- the consumer had started; nil if it says nothing of it, and all are charged.
local function give_back(keys, running, consumer, most, now, crashed, tried)
  local held, back, poisoned = call('HRANDFIELD', running, most, 'WITHVALUES'), 0, 0
  local back_kinds, kinds, bytes = {}, {}, 0
  local beside = tried and sub(tried, -2) == ' +'
  if beside then tried = sub(tried, 1, -3) end
  for i = 1, #held, 2 do
    local id, token, score = held[i], match(held[i + 1], '^(%d+) (%S+)$')
    local record = call('HGET', keys[TASKS], id)
    call('HDEL', running, id)
    if record then
      local m = parse_meta(call('HGET', keys[META], id))
      m.progress = ''
      if crashed then m.consumer = consumer end
      local charged = crashed and not (tried and m.crashes + 1 >= POISON_LIMIT and tried ~= (token or '') .. ' ' .. id)
      if charged then m.crashes = m.crashes + 1 else m.releases = m.releases + 1 end
      local more = beside and 3 or 0 -- it may have been one of the others that killed
      local kind, deaths = kind_of(record), m.crashes - more
      -- Some were told to bear more.
      if charged and deaths >= POISON_LIMIT and deaths >= (options_of(record).max_attempts or 0) then
        bury(keys, id, kind, created_of(record), m, now, consumer, 'poison', 'poison: ' .. m.crashes .. ' consumers died while they ran it')
        follow(keys, now, { id }, 'failed')
        tally(kinds, kind)
        poisoned = poisoned + 1
      else
        call('HSET', keys[META], id, format_meta(m))
        call('ZADD', keys[PENDING], held_order(keys, id, score), id)
        back = back + 1
        tally(back_kinds, kind)
      end
      bytes = bytes + #record
      if bytes > KINDS_BYTES then break end
    end
  end
  return back, poisoned, back_kinds, kinds
end

local function end_session(keys, consumer)
  call('ZREM', keys[CONSUMERS], consumer)
  call('ZREM', keys[PARKED], consumer)
  call('DEL', keys[OWN + 2], keys[OWN + 3])
  if call('HGET', keys[STATE], 'maintainer') == consumer then call('HDEL', keys[STATE], 'maintainer') end
end

local function take_back(keys, argv, crashed)
  local consumer, most, running = argv[1], tonumber(argv[2]), keys[OWN + 1]
  if not (most and most >= 1 and most <= MAX_BATCH) then return refuse('takes 1 to ' .. MAX_BATCH .. ' tasks') end
  local now = clock()
  if crashed and not is_dead(keys, consumer, now) then return { 0, 0, 0 } end
  check_finish(keys)
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED]); call('ZCARD', keys[CONSUMERS]); call('HLEN', running)
  local paused, said = is_paused(keys), crashed and call('HMGET', keys[OWN + 2], 'tries', 'tried')
  local tried = said and said[1] == '1' and (said[2] or '') or nil
  local back, poisoned, back_kinds, kinds = give_back(keys, running, consumer, most, now, crashed, tried)
  local event = crashed and 'reclaimed' or 'released'
  bump(keys, now, { [event] = back, failed = poisoned }, { [event] = back_kinds, failed = kinds })
  local more = call('HLEN', running) > 0
  if not more then end_session(keys, consumer) end
  -- Also when nothing came back: the dead one may have been woken for a task and never claimed it.
  local waiting = call('ZCARD', keys[PENDING])
  if waiting > 0 and not paused then wake(keys, math.max(1, back)) end
  return { back, poisoned, more and 1 or 0 }
end

local function reclaim(keys, argv) return take_back(keys, argv, true) end
local function leave(keys, argv) return take_back(keys, argv, false) end

local function adopt(keys, argv)
  if not argv[2] then return refuse('adopt takes a consumer and the most tasks') end
  if call('ZSCORE', keys[CONSUMERS], argv[1]) then return { 0, 0, 0 } end
  return take_back(keys, argv, false)
end

local function unpark(keys, argv)
  if not argv[1] then return refuse('unpark takes a consumer') end
  local waiting, paused = call('ZCARD', keys[PENDING]), is_paused(keys)
  if call('ZREM', keys[PARKED], argv[1]) == 1 then return 1 end
  if waiting > 0 and not paused then wake(keys, 1) end
  return 0
end

local function pass_on(keys)
  local waiting = call('ZCARD', keys[PENDING])
  call('ZCARD', keys[PARKED])
  if waiting > 0 and not is_paused(keys) then wake(keys, 1) end
  return waiting
end

register('unpark', unpark, 'allow-oom')
register('pass_on', pass_on, 'allow-oom')
register('dead', dead, 'no-writes')
register('reclaim', reclaim, 'allow-oom', { 'running:<dead>', 'session:<dead>', 'notices:<dead>' })
register('leave', leave, 'allow-oom', { 'running:<consumer>', 'session:<consumer>', 'notices:<consumer>' })
register('adopt', adopt, 'allow-oom', { 'running:<consumer>', 'session:<consumer>', 'notices:<consumer>' })
