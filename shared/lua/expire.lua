--[[ Tasks that were not started in time: what claim and sweep share. ]]
local function is_expired(record, now)
  if byte(record, 1) ~= 101 then return false end -- 'e'
  local at = options_of(record).expires_at
  return at and at <= now
end

local function expire_task(keys, id, record, meta, now)
  local m, options = parse_meta(meta ~= '' and meta), options_of(record)
  local kind = kind_of(record)
  local text = terminal_text('expired', kind, created_of(record), m.started, now, m, m.consumer, 'expired', '')
  finish(keys, id, text, options.retention or DEFAULT.retention, now)
  bump(keys, now, { expired = 1 }, { expired = { [kind] = 1 } })
  follow(keys, now, { id }, 'expired')
end
