"""What several test modules build on: backbones, tasks, runs and stores of a few kilobytes."""
