--[[ The stored forms of a task; docs/protocol.md has them field by field.

record (TASKS):   <flag><created ms> <kind>[ option=value ...] LF <extra JSON> LF <payload>
                  flag 'd': every option has its default, 'o': options follow, 'e': with expires_at
meta (META):      <failures> <crashes> <releases> <unhandled> <failed at> <reason> <started> <consumer> LF <progress>
                  LF <error>: `started` and `consumer` are those of the last attempt that ended badly
running:          <token> <score>
terminal (RESULTS): <state> <kind> <created> <started> <finished> <failures> <crashes> <releases>
                  <consumer> <reason>[ <bytes of the last error>] LF [<last error>]<result or error>
                  the error's length: of a task that failed before and then ended in another state
]]
local NUMERIC = { -- option -> least, most (ms for times)
  priority = { 0, 255 }, max_attempts = { 1, 1000 }, retry_priority_step = { 0, 255 },
  backoff_base = { 0, 315360000000 }, backoff_cap = { 0, 315360000000 },
  backoff_factor = { 1, 100 }, backoff_jitter = { 0, 1 },
  timeout = { 1, 315360000000 }, retention = { 0, 315360000000 },
  delay = { 0, 315360000000 }, expires_in = { 1, 315360000000 },
  not_before = { 0, 4503599627370496 }, expires_at = { 1, 4503599627370496 },
}
-- A kind is a field of the counts and a word of every stored form.
local KIND_RULE = 'kind must match [A-Za-z0-9._:-]{1,128}'
local function is_kind(text) return #text > 0 and #text <= 128 and not find(text, '[^%w._:-]') end

local KEEPS_FRACTION = { backoff_factor = true, backoff_jitter = true }
local TYPES = { single = true, map = true, reduce = true }

-- Parses 'a=1 b=2' into a table; nil and the reason if anything is off.
local function parse_options(text)
  local options, seen = {}, 0
  for token in string.gmatch(text, '[^ ]+') do
    local name, value = match(token, '^([a-z_]+)=([%w.]+)$')
    if not name then return nil, 'option "' .. sub(token, 1, 64) .. '" is not name=value' end
    if name == 'type' then
      if not TYPES[value] then return nil, 'type must be single, map or reduce' end
      options.type = value
    else
      local range, n = NUMERIC[name], match(value, KEEPS_FRACTION[name] and '^%d+%.?%d*$' or '^%d+$') and tonumber(value)
      if not range then return nil, 'unknown option "' .. name .. '"' end
      if not n or n < range[1] or n > range[2] then
        return nil, fmt('%s must be a number from %.0f to %.0f', name, range[1], range[2])
      end
      if n ~= floor(n) and not KEEPS_FRACTION[name] then return nil, name .. ' must be whole' end
      if options[name] then return nil, 'option "' .. name .. '" stands twice' end
      options[name] = n
    end
    seen = seen + 1
    if seen > 16 then return nil, 'too many options' end
  end
  return options
end

-- The options of a stored record: {} for the usual task, which has none.
local function options_of(record)
  if byte(record, 1) == 100 then return {} end -- 'd'
  local header = match(record, '^[^\n]*') -- what is no record has no options: see kind_of
  return parse_options(match(header, '^%l%d+ [^ ]+ (.*)$') or '') or {}
end

-- Bytes that somebody else put there must not fail an edge behind its first write.
local function kind_of(record) return match(record, '^%l%d+ ([^ \n]+)') or '?' end
local function created_of(record) return match(record, '^%l(%d+)') or '0' end

-- The mutable part of a task that has none; only to be read.
local FRESH = { failures = 0, crashes = 0, releases = 0, unhandled = 0, at = '0', reason = '-', started = '0', consumer = '-', progress = '', error = '' }

local function parse_meta(meta)
  local f, c, r, u, at, reason, started, consumer, progress, err =
    match(meta or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%S+)\n([^\n]*)\n(.*)$')
  if not f then
    local m = {}
    for name, value in pairs(FRESH) do m[name] = value end
    return m
  end
  return { failures = tonumber(f), crashes = tonumber(c), releases = tonumber(r), unhandled = tonumber(u),
    at = at, reason = reason, started = started, consumer = consumer, progress = progress, error = err }
end

local function format_meta(m)
  return fmt('%d %d %d %d %s %s %s %s\n', m.failures, m.crashes, m.releases, m.unhandled, m.at, m.reason, m.started, m.consumer)
    .. m.progress .. '\n' .. m.error
end

-- The score that a task has in PENDING: urgency first, then order of arrival.
local function pending_score(priority, sequence)
  if priority > 255 then priority = 255 end
  return int(priority * PRIORITY_SPAN + sequence)
end

-- What SCHEDULED is scored by: due time in ms, and the priority to enter PENDING with as the
-- fraction: 41 + 8 bits, exact in a double.
local function due_score(at, priority)
  if priority > 255 then priority = 255 end
  return fmt('%.17g', at + priority / 256)
end
