--[[ heartbeat: registers a consumer, renews its session lease, elects the maintainer. Runs under OOM.

KEYS  the shared keys, notices:<consumer>, then optionally vitals, fleet
ARGV  consumer | lease in ms | '1' = register (a new consumer), '0' = renew | its vitals, JSON ('' = none) | version of the
      fleet that it knows | its rank now, if it is parked ('' = as it was) | '1' = the maintainer should look at once
Reply status ('ok', or 'lost': the lease ended and the work was taken; register under a new id)
      | 1 if this consumer is the maintainer | ms until the next due time or lease end (-1: none)
      | the fleet, '<version> <JSON>', if it is another ('' if not) | then notices: 'cancel <id>'

One lease for a consumer's whole holdings: O(1) however many tasks it holds. Whoever beats also
elects: the maintainer is the holder of that name while its own session lease lasts, so no second
lease can disagree. A silence longer than a lease means that Redis was away or its clock stepped:
nobody could renew, so every session gets one more lease before anything is reclaimed.
]]
local MAX_NOTICES, MAX_CLAMPED = 100, 1000
local MAX_VITALS = 32768

local function note_gap(keys, now, lease)
  local tick = tonumber(call('HGET', keys[STATE], 'tick') or '0')
  -- Two missed beats of everybody: an outage shorter than a lease can end a lease too.
  if now - tick > lease * 2 / 3 or now < tick - 1000 then call('HSET', keys[STATE], 'grace', int(now + lease)) end
  if now < tick - 1000 then -- the clock went back: leases in the far future would never end
    local far = call('ZRANGEBYSCORE', keys[CONSUMERS], int(now + 2 * lease), '+inf', 'LIMIT', 0, MAX_CLAMPED)
    for i = 1, #far do call('ZADD', keys[CONSUMERS], int(now + lease), far[i]) end
  end
  call('HSET', keys[STATE], 'tick', int(now), 'lease', int(lease))
end

local function elect(keys, consumer, now)
  local holder = call('HGET', keys[STATE], 'maintainer')
  if holder == consumer then return true end
  local ends = holder and call('ZSCORE', keys[CONSUMERS], holder)
  if ends and tonumber(ends) > now then return false end
  call('HSET', keys[STATE], 'maintainer', consumer)
  return true
end

-- When maintenance has something to do next.
local function next_due(keys, now)
  local at = math.huge
  for _, key in ipairs { SCHEDULED, CONSUMERS, EXPIRING } do
    local first = call('ZRANGE', keys[key], 0, 0, 'WITHSCORES')[2]
    if first then at = math.min(at, tonumber(first)) end
  end
  if at == math.huge then return -1 end
  return math.max(0, floor(at) - now)
end

local function heartbeat(keys, argv)
  local consumer, lease, notices = argv[1] or '', tonumber(argv[2]), keys[OWN + 1]
  local vitals, fleet, report, known, rank = keys[OWN + 2], keys[OWN + 3], argv[4] or '', argv[5] or '', tonumber(argv[6] or '')
  if rank and not (rank >= 0 and rank < 9007199254740992) then return refuse('rank must be below 2^53') end
  if #consumer < 1 or #consumer > 128 or find(consumer, '[^%w._-]') then return refuse('consumer must match [A-Za-z0-9._-]{1,128}') end
  if not (lease and lease >= 100 and lease <= 86400000) then return refuse('lease must be from 100 ms to a day') end
  if report ~= '' and not vitals then return refuse('heartbeat keeps vitals under the own keys notices:<consumer>, vitals, fleet') end
  if #report > MAX_VITALS then return refuse('vitals exceed ' .. MAX_VITALS .. ' bytes') end
  local now = clock()
  local held = call('ZSCORE', keys[CONSUMERS], consumer)
  local heard = call('LRANGE', notices, 0, MAX_NOTICES - 1)
  local due = next_due(keys, now)
  if not held and argv[3] ~= '1' then return { 'lost', 0, due, '' } end
  call('HLEN', keys[STATE])
  local news = fleet and call('GET', fleet) or ''
  if match(news, '^%d*') == known then news = '' end
  if report ~= '' then call('HLEN', vitals) end
  if rank then call('ZCARD', keys[PARKED]) end

  note_gap(keys, now, lease)
  call('ZADD', keys[CONSUMERS], int(now + lease), consumer)
  if report ~= '' then call('HSET', vitals, consumer, report) end
  -- Whoever waits long must not stand where it stood when it was last busy.
  if rank then call('ZADD', keys[PARKED], 'XX', int(rank), consumer) end
  if argv[7] == '1' then wake_maintainer(keys, 'look') end
  if heard[1] then call('LTRIM', notices, #heard, -1) end
  return { 'ok', elect(keys, consumer, now) and 1 or 0, due, news, unpack(heard) }
end

register('heartbeat', heartbeat, 'allow-oom', { 'notices:<consumer>' })
