"""The dialect of Binance Spot: one prefix a session, ``/binance/{session_id}``, for its host."""
