--[[ sweep: what has outlived its time, in bounded steps. Runs under OOM.

KEYS  the shared keys
ARGV  most items of each sort
Reply tasks expired unstarted | results removed | dead letters trimmed | 1 if more are left

Unstarted tasks past expires_at become expired; results past their retention go; the dead-letter
set keeps its newest 100,000 for 90 days, and what it trims is counted, never silent.
]]
local function expire_due(keys, now, most)
  local due, n = call('ZRANGEBYSCORE', keys[EXPIRING], '-inf', int(now), 'LIMIT', 0, most), 0
  for i = 1, #due do
    local id = due[i]
    local record = call('HGET', keys[TASKS], id)
    -- The id may have been used again since, without this expiry; and a started task goes on.
    if record and is_expired(record, now) and not call('ZSCORE', keys[FAILED], id)
      and call('ZREM', keys[PENDING], id) + call('ZREM', keys[SCHEDULED], id) > 0 then
      expire_task(keys, id, record, call('HGET', keys[META], id) or '', now)
      n = n + 1
    end
    call('ZREM', keys[EXPIRING], id)
  end
  return n, #due
end

local function drop_results(keys, now, most)
  local old = call('ZRANGEBYSCORE', keys[DONE], '-inf', int(now), 'LIMIT', 0, most)
  if old[1] then
    call('HDEL', keys[RESULTS], unpack(old))
    call('ZREM', keys[DONE], unpack(old))
  end
  return #old
end

local function trim_failed(keys, now, most)
  local over = math.min(most, call('ZCARD', keys[FAILED]) - FAILED_CAP)
  local old = over > 0 and call('ZRANGE', keys[FAILED], 0, over - 1)
    or call('ZRANGEBYSCORE', keys[FAILED], '-inf', int(now - FAILED_AGE), 'LIMIT', 0, most)
  if old[1] then
    call('HDEL', keys[TASKS], unpack(old))
    call('HDEL', keys[META], unpack(old))
    call('ZREM', keys[FAILED], unpack(old))
    call('ZREM', keys[EXPIRING], unpack(old))
    bump(keys, now, { trimmed = #old })
  end
  return #old
end

local function sweep(keys, argv)
  local most = tonumber(argv[1])
  if not most or not (most >= 1 and most <= MAX_BATCH) then return refuse('sweep takes 1 to ' .. MAX_BATCH .. ' items') end
  local now = clock()
  check_finish(keys)
  call('ZCARD', keys[EXPIRING]); call('ZCARD', keys[PENDING]); call('ZCARD', keys[SCHEDULED])
  local expired, looked = expire_due(keys, now, most)
  local dropped, trimmed = drop_results(keys, now, most), trim_failed(keys, now, most)
  return { expired, dropped, trimmed, (looked == most or dropped == most or trimmed == most) and 1 or 0 }
end

register('sweep', sweep, 'allow-oom')
