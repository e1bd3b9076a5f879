"""What tests stand on: servers, fakes, receivers, and ways to start the program."""
