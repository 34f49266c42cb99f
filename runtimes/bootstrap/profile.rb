# frozen_string_literal: true

# Measures what an init spends its time on: the features that are required. Loaded by the bootstrap of a process that is told to
# measure. What it replaces is put back when init is over. Ruby does not let require_relative be seen: that time is the requirer's.
module LambdaProfile
  RECORDED = 8000 # features that are measured
  FEATURES = 2000 # of these, as many are told that took longest
  LONGEST = 300 # characters of a name or a file

  Record = Struct.new(:name, :file, :parent, :start, :total, :nested, :failed)

  class << self
    def begin
      @records = []
      @dropped = 0
      @begun = clock
      @recording = Thread.current
      # In Object it comes before Kernel's, which RubyGems and others replace.
      Object.class_eval do
        def require(path)
          LambdaProfile.measure(path) { super }
        end
        private :require
      end
      @method = Object.instance_method(:require)
    end

    # The profile, as the host reads it.
    def end
      now = clock
      @recording = nil
      Object.send(:remove_method, :require) if Object.private_method_defined?(:require, false) && Object.instance_method(:require) == @method
      @records.each { |record| record.total ||= now - record.start }
      tell
    ensure
      @records = @current = nil
    end

    # Only the thread that initialises is measured.
    def measure(path)
      return yield unless @recording == Thread.current

      record = enter(path)
      begin
        loaded = yield
        record.failed = false
        loaded
      ensure
        leave(record, loaded)
      end
    end

    private

    def clock
      Process.clock_gettime(Process::CLOCK_MONOTONIC, :microsecond)
    end

    def enter(path)
      record = Record.new(path, nil, @current, clock, nil, 0, true)
      if @records.size < RECORDED
        @records << record
      else
        @dropped += 1
      end
      @current = record
    end

    def leave(record, loaded)
      return unless @records # a fiber that was left within it goes on after init

      record.total = clock - record.start
      @current = record.parent
      if loaded == false # it was there
        @records.pop if @records.last.equal?(record)
        record.total = record.nested
      end
      record.file = $LOADED_FEATURES.last if loaded
      @current.nested += record.total if @current
    end

    def tell
      chosen = @records
      if chosen.size > FEATURES
        kept = chosen.each_with_index.sort_by { |record, i| [-record.total, i] }.first(FEATURES).map(&:last).sort
        @dropped += chosen.size - kept.size
        chosen = chosen.values_at(*kept)
      end
      index = {}.compare_by_identity
      chosen.each_with_index { |record, i| index[record] = i }
      columns(chosen, index).merge(failed: chosen.each_index.select { |i| chosen[i].failed }, dropped: @dropped).to_json
    end

    def columns(chosen, index)
      {
        kind: 'import',
        names: chosen.map { |record| short(record.name) },
        parents: chosen.map { |record| index.fetch(record.parent, -1) },
        files: chosen.map { |record| short(record.file) },
        bytes: chosen.map { |record| size(record.file) },
        starts: chosen.map { |record| record.start - @begun },
        selves: chosen.map { |record| record.total - record.nested },
        totals: chosen.map(&:total)
      }
    end

    def short(text)
      String.new(text.to_s, encoding: Encoding::UTF_8).scrub[0, LONGEST]
    end

    def size(file)
      file ? File.size(file) : 0
    rescue SystemCallError
      0
    end
  end
end
