# Sidekiq: one process, 10 threads (its default). The free version takes a job by BRPOP: a crash loses it.
require 'json'
require 'sidekiq'
require 'sidekiq/api'
require 'sidekiq/launcher'

MODE, COUNT, EXTRA = ARGV[0], ARGV[1].to_i, ARGV[2]
CALLERS = 64
SIZE = ENV.fetch('BENCH_PAYLOAD', 100).to_i
BULK = (2_000_000 / SIZE).clamp(1, 1000)
Sidekiq.logger.level = Logger::FATAL
Sidekiq.configure_client { |config| config.redis = { url: ENV['REDIS_URL'], size: CALLERS } }

def nanos = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
def payload = "#{nanos};".ljust(SIZE - 2, 'x')
def say(line) = $stdout.tap { |out| out.puts(JSON.generate(line)) }.flush

class Noop
  include Sidekiq::Worker
  LOCK = Mutex.new
  SPANS = []

  def perform(text)
    now = nanos
    LOCK.synchronize do
      @@begun = [now, cpu] if SPANS.empty?
      SPANS << (now - text.to_i) / 1000.0
      report(now) if SPANS.size == COUNT
    end
  end

  def report(now)
    seconds, used = (now - @@begun[0]) / 1e9, cpu - @@begun[1]
    rest = SPANS.drop(COUNT / 10).sort # the first tenth warms up
    at = ->(share) { rest[[rest.size - 1, (rest.size * share).to_i].min] }
    Thread.new do
      sleep 0.3
      say(count: COUNT, seconds: seconds, cpu: used, p50_us: at[0.5], p99_us: at[0.99], p999_us: at[0.999])
      exit!(0)
    end
  end
end

def callers
  Array.new(CALLERS) { Thread.new { (COUNT / CALLERS).times { yield } } }.each(&:value)
end

def feed(rate)
  begun = nanos
  COUNT.times do |n|
    early = n / rate - (nanos - begun) / 1e9
    sleep early if early > 0.001
    Noop.perform_async(payload)
  end
end

if MODE == 'work'
  options = Sidekiq.options.merge(queues: ['default'], concurrency: 10, environment: 'production', fetch: nil)
  Sidekiq.redis = { url: ENV['REDIS_URL'], size: 15 }
  options[:fetch] = Sidekiq::BasicFetch.new(options)
  Sidekiq::Launcher.new(options).run
  say(ready: true)
  sleep
end
begun = nanos
case MODE
when 'one' then COUNT.times { Noop.perform_async(payload) }
when 'many' then callers { Noop.perform_async(payload) }
when 'bulk' then (0...COUNT).each_slice(BULK) { |part| Sidekiq::Client.push_bulk('class' => Noop, 'args' => part.map { [payload] }) }
when 'feed' then feed(EXTRA.to_f)
else abort "no mode #{MODE}"
end
say(count: COUNT, seconds: (nanos - begun) / 1e9)
