# frozen_string_literal: true

# Turns an initialised environment into a template, and each fork of it into an environment. Loaded by the bootstrap when
# the host asks for it.
module LambdaPark
  class << self
    # send_frame speaks to the host; the block is called in each environment.
    def run(send_frame)
      load_native(send_frame)
      $stdout.flush
      $stderr.flush
      GC.start
      GC.compact if GC.respond_to?(:compact)
      generators = ObjectSpace.each_object(Random).reject { |generator| chosen?(generator.seed) }
      shared = chosen?(Random.seed) ? [Random.seed, draws] : nil
      send_frame.call('P')
      variables = wait
      # This is an environment from here on.
      yield
      up = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
      variables.split("\0").each do |pair|
        name, value = pair.split('=', 2)
        ENV[name] = value
      end
      ENV.delete('LC_CTYPE') if ENV['LC_CTYPE'] == 'C.UTF-8' # as at the start: it was for Ruby alone
      reseed(generators, shared)
      send_frame.call('R', up.to_s)
    end

    private

    def load_native(send_frame)
      require File.join(__dir__, 'fork.so')
    rescue LoadError => e
      send_frame.call('X', 'Runtime.ForkUnavailable', { errorType: e.class.to_s, errorMessage: e.message }.to_json)
      exit!(1)
    end

    # The variables of an environment. Ruby makes each of the three processes itself, since it renews its threads and timers
    # around a fork.
    def wait
      loop do
        LambdaFork.wait
        maker = Process.fork
        return enter unless maker

        LambdaFork.done
        Process.wait(maker)
      end
    end

    def enter
      LambdaFork.leave
      first = Process.fork
      exit!(0) if first
      LambdaFork.reap if Process.fork
      LambdaFork.become
    end

    # A generator that the function has given a number like 42 is the function's own: each environment goes on with its sequence,
    # as one that was booted does. A larger seed may come from a clock or from random bytes, and was then meant to differ.
    def chosen?(seed)
      seed.abs < 100_000_000
    end

    # How many words the function has drawn from Ruby's own generator since it was given its seed, as far as it is not too many to
    # be drawn again; nil otherwise.
    def draws
      reached = Random.new(Random.seed)
      (0..10_000).find do |_|
        next true if same_state?(reached)

        reached.bytes(4)
        false
      end
    end

    def same_state?(generator)
      %i[state left].all? { |part| Random.__send__(part) == generator.__send__(part) }
    end

    # Ruby's own generator is renewed by its fork; those that the function made go on where they were.
    def reseed(generators, shared)
      Random.srand
      seed, drawn = shared
      Random.srand(seed).then { Random.bytes(4 * drawn) } if drawn
      generators.each { |generator| generator.__send__(:initialize_copy, Random.new) }
      return unless defined?(OpenSSL::Random)

      OpenSSL::Random.random_add(Random.urandom(64), 64.0)
      raise 'OpenSSL has no seed' unless OpenSSL::Random.status?
    end
  end
end
