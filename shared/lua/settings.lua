--[[ set: the settings of a queue, at run time. Runs under OOM.

KEYS  the shared keys, audit
ARGV  who, for the audit | name, value ... : all are set, or none
      paused 0 or 1: hand out nothing; resuming wakes who is parked
      balance pull, round-robin or adaptive: who is woken first
      max_pending 0 (no limit) to 1,000,000,000 | max_bytes 0 (no limit) to 2^50 | overload reject, block or shed: see overload.lua
Reply OK
]]
local MAX_SETTINGS = 16
local LIMITS = { max_pending = 1000000000, max_bytes = 1125899906842624 }
local CHOICES = {
  paused = { '0', '1' },
  balance = { 'pull', 'round-robin', 'adaptive' },
  overload = { 'reject', 'block', 'shed' },
}

-- The reason why a setting is refused, nil if it is good. What is good is short: values stay bounded.
local function wrong_setting(name, value)
  local most = LIMITS[name]
  if most then
    if #value <= #int(most) and find(value, '^%d+$') and tonumber(value) <= most then return nil end
    return name .. ' must be a whole number from 0 (no limit) to ' .. int(most)
  end
  local choices = CHOICES[name]
  if not choices then
    return 'unknown setting "' .. sub(name, 1, 64) .. '": settings are paused, balance, max_pending, max_bytes, overload'
  end
  for _, choice in ipairs(choices) do
    if value == choice then return nil end
  end
  return name .. ' must be ' .. table.concat(choices, ' or ')
end

local function set(keys, argv)
  local audit, who, said = keys[OWN + 1], argv[1], {}
  if #argv < 3 or #argv % 2 ~= 1 or #argv > 2 * MAX_SETTINGS + 1 then
    return refuse('set takes 1 to ' .. MAX_SETTINGS .. ' settings, each a name and a value')
  end
  for i = 2, #argv, 2 do
    local wrong = wrong_setting(argv[i], argv[i + 1])
    if wrong then return refuse(wrong) end
    said[#said + 1] = argv[i] .. '=' .. argv[i + 1]
  end
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  call('HLEN', keys[CFG]); call('ZCARD', keys[PARKED]); call('HLEN', keys[STATE])
  for i = 2, #argv, 2 do call('HSET', keys[CFG], argv[i], argv[i + 1]) end
  note(audit, who, 'set', #said, table.concat(said, ' '))
  if not is_paused(keys) then wake(keys, MAX_WOKEN) end
  wake_maintainer(keys, 'look') -- it tells everybody how the queue balances now
  return redis.status_reply('OK')
end

register('set', set, 'allow-oom', { 'audit' })
