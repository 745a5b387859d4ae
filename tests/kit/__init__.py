"""What tests share: a real server, workers and children on it, commands as a person types them, bars as a market makes
them. Nothing here is a test.
"""
