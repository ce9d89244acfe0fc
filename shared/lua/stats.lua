--[[ Exact counters, per queue and per kind, and one snapshot of the totals per minute.

bump() adds to the totals. Before the first change in a new minute it stores the totals as they
were: the count of any minute is the difference of two snapshots, and the hot path pays one HGET a call.
The ring has 1,440 places, so a day of minutes and no more.
]]
local COUNTERS = { 'submitted', 'completed', 'failed', 'retried', 'cancelled', 'expired',
  'reclaimed', 'released', 'stale', 'rejected', 'trimmed', 'deleted', 'duplicate', 'requeued', 'purged',
  'shed', 'jobs_failed', 'promoted' } -- new ones go to the end: a minute's snapshot is read by place
local SHED = 16
local MAX_STAT_FIELDS = 20000 -- about 2,000 kinds; later ones are counted as '*'
-- Where a record is read for its kind alone: no more of them in one call once they come to so many bytes.
local KINDS_BYTES = 1048576

local check_stats, bump

do
  local function snapshot(keys, minute)
    local totals = call('HMGET', keys[STATS], unpack(COUNTERS))
    for i = 1, #totals do totals[i] = totals[i] or '0' end
    call('HSET', keys[MINUTES], int(minute % 1440), int(minute) .. ' ' .. table.concat(totals, ' '))
    call('HSET', keys[STATS], 'minute', int(minute))
  end

  -- The minute that the counters stand in, read once a call: `keys` is a new table in each.
  local stats_keys, stats_minute

  local function read_minute(keys)
    if stats_keys ~= keys then stats_keys, stats_minute = keys, tonumber(call('HGET', keys[STATS], 'minute')) end
    return stats_minute
  end

  -- Reads what bump() will write: a wrong type must fail before the edge's first write.
  function check_stats(keys, now)
    if not now or read_minute(keys) ~= floor(now / 60000) then call('HLEN', keys[MINUTES]) end
    read_minute(keys)
  end

  -- Counts for a kind. A field that is new holds just this: only then can there be one too many.
  local function bump_kind(keys, counter, kind, n)
    local field = counter .. ' ' .. kind
    if call('HINCRBY', keys[STATS], field, small(n)) == n and call('HLEN', keys[STATS]) > MAX_STAT_FIELDS + 1 then
      call('HDEL', keys[STATS], field)
      call('HINCRBY', keys[STATS], counter .. ' *', small(n))
    end
  end

  -- totals: counter -> n; kinds: counter -> { kind -> n }
  function bump(keys, now, totals, kinds)
    local minute = floor(now / 60000)
    if read_minute(keys) ~= minute then
      snapshot(keys, minute)
      stats_minute = minute
    end
    for counter, n in pairs(totals) do
      if n > 0 then call('HINCRBY', keys[STATS], counter, small(n)) end
    end
    if not kinds then return end
    for counter, per_kind in pairs(kinds) do
      for kind, n in pairs(per_kind) do bump_kind(keys, counter, kind, n) end
    end
  end
end

local function tally(per_kind, kind) per_kind[kind] = (per_kind[kind] or 0) + 1 end
