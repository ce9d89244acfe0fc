--[[ Exact counters, per queue and per kind, and one snapshot of the totals per minute.

bump() adds to the totals. Before the first change in a new minute it stores the totals as they
were: the count of any minute is the difference of two snapshots, and the hot path pays one HGET.
The ring has 1,440 places, so a day of minutes and no more.
]]
local COUNTERS = { 'submitted', 'completed', 'failed', 'retried', 'cancelled', 'expired',
  'reclaimed', 'released', 'stale', 'rejected', 'trimmed', 'deleted', 'duplicate', 'requeued', 'purged',
  'shed' } -- new ones go to the end: a minute's snapshot is read by place
local SHED = 16
local MAX_STAT_FIELDS = 20000 -- about 2,000 kinds; later ones are counted as '*'

local function snapshot(keys, minute)
  local totals = call('HMGET', keys[STATS], unpack(COUNTERS))
  for i = 1, #totals do totals[i] = totals[i] or '0' end
  call('HSET', keys[MINUTES], int(minute % 1440), int(minute) .. ' ' .. table.concat(totals, ' '))
  call('HSET', keys[STATS], 'minute', int(minute))
end

-- Reads what bump() will write: a wrong type must fail before the edge's first write.
local function check_stats(keys)
  call('HLEN', keys[MINUTES])
  return call('HLEN', keys[STATS])
end

-- totals: counter -> n; kinds: counter -> { kind -> n }
local function bump(keys, now, totals, kinds)
  local minute = floor(now / 60000)
  if call('HGET', keys[STATS], 'minute') ~= int(minute) then snapshot(keys, minute) end
  for counter, n in pairs(totals) do
    if n > 0 then call('HINCRBY', keys[STATS], counter, n) end
  end
  if not kinds then return end
  local full = call('HLEN', keys[STATS]) > MAX_STAT_FIELDS
  for counter, per_kind in pairs(kinds) do
    for kind, n in pairs(per_kind) do
      local field = counter .. ' ' .. kind
      if full and call('HEXISTS', keys[STATS], field) == 0 then field = counter .. ' *' end
      call('HINCRBY', keys[STATS], field, n)
    end
  end
end

local function tally(per_kind, kind) per_kind[kind] = (per_kind[kind] or 0) + 1 end
