"""What several commands share: run folders, records, devices, policies at play, pictures."""
